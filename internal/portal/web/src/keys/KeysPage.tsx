import { Button, makeStyles, Text, tokens } from "@fluentui/react-components";
import { useState } from "react";
import { type Keys, version } from "../api/arm";
import { useApi } from "../app/api";
import { useCurrent } from "../app/instance";
import { useChange } from "../shared/change";
import { ConfirmChange } from "../shared/Confirm";
import { Copy } from "../shared/Copy";
import { Facts } from "../shared/Facts";
import { ErrorBar, Loading, Note } from "../shared/feedback";
import { Act, ActSwitch } from "../shared/may";
import { Page, Section } from "../shared/Page";
import { useQuery } from "@tanstack/react-query";
import { ClientUrl } from "./ClientUrl";

const useStyles = makeStyles({
  secret: { display: "flex", alignItems: "center", gap: tokens.spacingHorizontalXS },
  text: { fontFamily: tokens.fontFamilyMonospace, fontSize: tokens.fontSizeBase200, overflowWrap: "anywhere" },
});

/** KeysPage shows, hides, copies and replaces the access keys. */
export function KeysPage() {
  const instance = useCurrent();
  const api = useApi();
  const [shown, setShown] = useState(false);
  const [replacing, setReplacing] = useState<"Primary" | "Secondary" | null>(null);
  const query = { "api-version": version.webPubSub };
  const keys = useQuery({ queryKey: ["keys", instance.id], queryFn: async () => (await api.call<Keys>("POST", `${instance.id}/listKeys`, { query })).body, refetchInterval: 10_000 });
  const disabled = instance.properties.disableLocalAuth;
  const toggle = useChange(
    (api, on: boolean) => api.call("PATCH", instance.id, { query, body: { properties: { disableLocalAuth: !on } } }),
    (on) => (on ? "Access keys are accepted." : "Access keys are not accepted any more."),
  );
  return (
    <Page title="Keys" about="Whoever has an access key may do everything with this instance's connections. Prefer roles of identities where you can.">
      {toggle.error && <ErrorBar error={toggle.error} />}
      <ActSwitch ask={{ method: "PATCH", path: instance.id }} label="Access keys" checked={!disabled} busy={toggle.busy} onChange={(_, d) => void toggle.run(d.checked)} />
      {disabled && <Note>Requests that are signed with an access key are refused.</Note>}
      {keys.error && <ErrorBar error={keys.error} />}
      {keys.isPending && <Loading />}
      {keys.data && (
        <>
          <Button style={{ alignSelf: "flex-start" }} onClick={() => setShown(!shown)}>
            {shown ? "Hide keys" : "Show keys"}
          </Button>
          {(["Primary", "Secondary"] as const).map((which) => (
            <Section key={which} title={which}>
              <Facts
                facts={[
                  ["Key", <Secret text={which === "Primary" ? keys.data.primaryKey : keys.data.secondaryKey} what={`${which.toLowerCase()} key`} shown={shown} />],
                  [
                    "Connection string",
                    <Secret
                      text={which === "Primary" ? keys.data.primaryConnectionString : keys.data.secondaryConnectionString}
                      what={`${which.toLowerCase()} connection string`}
                      shown={shown}
                    />,
                  ],
                ]}
              />
              <Act style={{ alignSelf: "flex-start" }} ask={{ method: "POST", path: `${instance.id}/regenerateKey` }} onClick={() => setReplacing(which)}>
                Regenerate {which.toLowerCase()} key
              </Act>
            </Section>
          ))}
        </>
      )}
      <ClientUrl />
      {replacing !== null && (
        <ConfirmChange
          title={`Regenerate the ${replacing.toLowerCase()} key`}
          verb="Regenerate"
          act={(api) => api.call("POST", `${instance.id}/regenerateKey`, { query, body: { keyType: replacing } })}
          success={`The ${replacing.toLowerCase()} key was replaced.`}
          onClose={() => setReplacing(null)}
        >
          <Text>Whoever uses the present key is refused from now on. The other key stays as it is.</Text>
        </ConfirmChange>
      )}
    </Page>
  );
}

function Secret({ text, what, shown }: { text: string; what: string; shown: boolean }) {
  const styles = useStyles();
  return (
    <span className={styles.secret}>
      <span className={styles.text}>{shown ? text : "••••••••••••••••"}</span>
      <Copy text={text} what={what} />
    </span>
  );
}
