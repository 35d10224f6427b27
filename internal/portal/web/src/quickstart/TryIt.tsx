import { useQuery } from "@tanstack/react-query";
import { Button, makeStyles, Spinner, Text, tokens } from "@fluentui/react-components";
import { CheckmarkCircleFilled } from "@fluentui/react-icons/svg/checkmark-circle";
import { CircleRegular } from "@fluentui/react-icons/svg/circle";
import { DismissCircleFilled } from "@fluentui/react-icons/svg/dismiss-circle";
import { useState } from "react";
import { Link } from "react-router";
import { instancePath, useApi, useRefresh } from "../app/api";
import { useCurrent } from "../app/instance";
import { loadSettings } from "../app/settings";
import { Claims } from "../shared/Claims";
import { Code } from "../shared/Copy";
import { Empty, ErrorBar, Note } from "../shared/feedback";
import { Section } from "../shared/Page";
import { type Outcome, type Step, steps } from "./steps";

const useStyles = makeStyles({
  list: { listStyleType: "none", margin: 0, padding: 0, display: "flex", flexDirection: "column", gap: tokens.spacingVerticalM },
  step: { display: "grid", gridTemplateColumns: "24px minmax(0, 1fr)", columnGap: tokens.spacingHorizontalM, alignItems: "start" },
  good: { color: tokens.colorPaletteGreenForeground1 },
  bad: { color: tokens.colorPaletteRedForeground1 },
  start: { alignSelf: "flex-start" },
});

/** TryIt does what the seven pages beside this one do, one real request after the other, and shows what came of it. */
export function TryIt() {
  const styles = useStyles();
  const instance = useCurrent();
  const api = useApi();
  const refresh = useRefresh();
  const { data: sample, isPending } = useQuery({
    queryKey: ["sample handler"],
    queryFn: async () => (await loadSettings()).sampleHandler,
    staleTime: Infinity,
  });
  const [done, setDone] = useState(0);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const [outcome, setOutcome] = useState<Outcome>({});
  if (isPending) return null;
  if (!sample) {
    return (
      <Empty title="Try it with a handler of your own">
        This service runs without the built-in sample handler, which <code>tabard dev</code> has. Add an event handler under{" "}
        <Link to={instancePath(instance.id, instance.name, "settings")}>Settings</Link>, then send an event in the <Link to={instancePath(instance.id, instance.name, "playground")}>Playground</Link>.
      </Empty>
    );
  }
  const list = steps(instance, sample);
  const run = async () => {
    setBusy(true);
    setError(null);
    setOutcome({});
    setDone(0);
    let found: Outcome = {};
    try {
      for (const [i, step] of list.entries()) {
        found = { ...found, ...(await step.run(api, found)) };
        setOutcome(found);
        setDone(i + 1);
      }
    } catch (cause) {
      setError(cause instanceof Error ? cause : new Error(String(cause)));
    }
    await refresh();
    setBusy(false);
  };
  return (
    <Section title="Try it">
      <Text>
        A sample event handler runs in this process at {sample.url}, with the guard library in front: it accepts tokens for {sample.audience} only. The button below does what you would click on the pages beside this one.
      </Text>
      <Button className={styles.start} appearance="primary" disabled={busy} onClick={() => void run()}>
        {busy ? "Working…" : done === list.length ? "Send another event" : "Send an event as this instance's identity"}
      </Button>
      <ol className={styles.list} aria-label="Steps">
        {list.map((s, i) => (
          <StepLine key={s.title} step={s} state={i < done ? "done" : i === done && error !== null ? "failed" : i === done && busy ? "busy" : "open"} />
        ))}
      </ol>
      {error && <ErrorBar error={error} />}
      {outcome.reply !== undefined && <Result outcome={outcome} trace={instancePath(instance.id, instance.name, "trace")} />}
    </Section>
  );
}

function StepLine({ step, state }: { step: Step; state: "open" | "busy" | "done" | "failed" }) {
  const styles = useStyles();
  const icon = {
    open: <CircleRegular aria-label="Not done yet" />,
    busy: <Spinner size="tiny" aria-label="Under way" />,
    done: <CheckmarkCircleFilled className={styles.good} aria-label="Done" />,
    failed: <DismissCircleFilled className={styles.bad} aria-label="Failed" />,
  }[state];
  return (
    <li className={styles.step}>
      {icon}
      <Text>
        <b>{step.title}</b> {step.about}
      </Text>
    </li>
  );
}

function Result({ outcome, trace }: { outcome: Outcome; trace: string }) {
  return (
    <>
      <Note intent="success" title="The handler verified who called it">
        It checked issuer, audience, signature and lifetime of the token, and answered the client.
      </Note>
      <Code text={outcome.reply ?? ""} what="answer of the handler" />
      {outcome.record?.claims && <Claims title="The verified token's claims" claims={outcome.record.claims} open />}
      <Text>{outcome.record && <Link to={`${trace}?record=${outcome.record.id}`}>See every step of this event in the Live trace</Link>}</Text>
    </>
  );
}
