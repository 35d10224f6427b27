import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Button, makeStyles, Spinner, Text, tokens } from "@fluentui/react-components";
import { useDeferredValue, useState } from "react";
import { type EventHandler, type HandlerCheck, segment, version } from "../api/arm";
import { ApiError } from "../api/client";
import { useApi } from "../app/api";
import { useCurrent } from "../app/instance";
import { Claims } from "../shared/Claims";
import { ErrorBar, Note, Warnings } from "../shared/feedback";

const useStyles = makeStyles({
  box: { display: "flex", flexDirection: "column", alignItems: "flex-start", gap: tokens.spacingVerticalS },
  url: { fontFamily: tokens.fontFamilyMonospace, fontSize: tokens.fontSizeBase200, overflowWrap: "anywhere" },
});

function useCheck() {
  const api = useApi();
  const instance = useCurrent();
  return async (hub: string, handler: EventHandler, ask: boolean, signal?: AbortSignal) => {
    const path = `${instance.id}/hubs/${segment(hub)}/checkEventHandler`;
    return (await api.call<HandlerCheck>("POST", path, { query: { "api-version": version.webPubSub }, body: { handler, ask }, signal })).body;
  };
}

/** Preview shows where an event would go while the template is being written, and asks the handler whether it would take it. */
export function Preview({ hub, handler }: { hub: string; handler: EventHandler }) {
  const styles = useStyles();
  const check = useCheck();
  const written = useDeferredValue(handler);
  const { data, error } = useQuery<HandlerCheck, ApiError>({
    queryKey: ["preview", hub, written],
    queryFn: ({ signal }) => check(hub, written, false, signal),
    enabled: written.urlTemplate !== "",
    placeholderData: keepPreviousData,
  });
  const [asked, setAsked] = useState<{ of: EventHandler; busy: boolean; result?: HandlerCheck["check"]; error?: Error } | null>(null);
  const ask = async () => {
    setAsked({ of: handler, busy: true });
    try {
      setAsked({ of: handler, busy: false, result: (await check(hub, handler, true)).check });
    } catch (cause) {
      setAsked({ of: handler, busy: false, error: cause instanceof Error ? cause : new Error(String(cause)) });
    }
  };
  if (handler.urlTemplate === "") return null;
  const current = asked?.of === handler ? asked : null;
  return (
    <div className={styles.box} aria-live="polite">
      {error ? (
        <ErrorBar error={error} />
      ) : (
        data && (
          <>
            <Text size={200}>The event “message” of hub {hub} goes to</Text>
            <span className={styles.url}>{data.url}</span>
            <Warnings warnings={data.warnings} />
          </>
        )
      )}
      <Button size="small" disabled={current?.busy || error !== null} icon={current?.busy ? <Spinner size="tiny" /> : undefined} onClick={() => void ask()}>
        Validate
      </Button>
      {current?.error && <ErrorBar error={current.error} />}
      {current?.result && <Outcome result={current.result} />}
    </div>
  );
}

function Outcome({ result }: { result: NonNullable<HandlerCheck["check"]> }) {
  return (
    <>
      {result.passed ? (
        <Note intent="success" title="The handler wants events of this service">
          It passed the endpoint validation.
        </Note>
      ) : (
        <ErrorBar error={new ApiError(result.status, result.code, `${result.sentence}${result.detail ? `: ${result.detail}` : ""}. To mend it: ${result.fix}.`)} />
      )}
      {result.claims && <Claims title="The token that it is sent" claims={result.claims} />}
    </>
  );
}
