import { Checkbox, Field, Input, makeStyles, tokens } from "@fluentui/react-components";
import { useState } from "react";
import { type Live, version } from "../api/arm";
import { useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { askDataPlane, type ClientOptions, generateUrl } from "../playground/connect";
import { useChange } from "../shared/change";
import { Code } from "../shared/Copy";
import { ErrorBar } from "../shared/feedback";
import { Act } from "../shared/may";
import { Section } from "../shared/Page";

const useStyles = makeStyles({
  fields: { display: "flex", flexWrap: "wrap", gap: tokens.spacingHorizontalL, alignItems: "flex-end" },
});

/** ClientUrl is Azure's Client URL Generator: an address with a token, good for an hour. */
export function ClientUrl() {
  const styles = useStyles();
  const instance = useCurrent();
  const live = useReading<Live>(["live"], `${instance.id}/live`, version.webPubSub);
  const [options, setOptions] = useState<ClientOptions>({ hub: "chat", userId: "", groups: "", subprotocol: "", mayAll: false });
  const [url, setUrl] = useState("");
  const change = (some: Partial<ClientOptions>) => setOptions({ ...options, ...some });
  const generate = useChange(async (api) => setUrl(await generateUrl(api, instance.name, live.data?.endpoint ?? "", options)), "The client URL is good for an hour.");
  return (
    <Section title="Client URL Generator">
      <form
        className={styles.fields}
        onSubmit={(e) => {
          e.preventDefault();
          void generate.run();
        }}
      >
        <Field label="Hub">
          <Input value={options.hub} onChange={(_, d) => change({ hub: d.value.trim() })} />
        </Field>
        <Field label="User ID">
          <Input value={options.userId} onChange={(_, d) => change({ userId: d.value })} />
        </Field>
        <Field label="Groups">
          <Input value={options.groups} onChange={(_, d) => change({ groups: d.value })} />
        </Field>
        <Checkbox label="May join and send to every group" checked={options.mayAll} onChange={(_, d) => change({ mayAll: d.checked === true })} />
        <Act ask={askDataPlane(instance)} type="submit" busy={generate.busy} disabled={options.hub === "" || live.data === undefined}>
          Generate
        </Act>
      </form>
      {generate.error && <ErrorBar error={generate.error} />}
      {url !== "" && <Code text={url} what="client URL" />}
    </Section>
  );
}
