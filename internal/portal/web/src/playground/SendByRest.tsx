import { Card, Field, Input, makeStyles, Select, Subtitle2, Textarea, tokens } from "@fluentui/react-components";
import { useState } from "react";
import { segment, version } from "../api/arm";
import { useCurrent } from "../app/instance";
import { useChange } from "../shared/change";
import { ErrorBar } from "../shared/feedback";
import { Act } from "../shared/may";
import { askDataPlane, dataPlane } from "./connect";

const useStyles = makeStyles({
  fields: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalM },
});

const targets = { all: "All connections", groups: "A group", users: "A user", connections: "A connection" } as const;
type Target = keyof typeof targets;

/** SendByRest is what an application's server does: publish by the REST API. */
export function SendByRest({ hub: initial }: { hub: string }) {
  const styles = useStyles();
  const instance = useCurrent();
  const [hub, setHub] = useState(initial);
  const [target, setTarget] = useState<Target>("all");
  const [name, setName] = useState("");
  const [type, setType] = useState("text/plain");
  const [text, setText] = useState("hello from the server");
  const base = dataPlane(instance.name, hub);
  const path = target === "all" ? `${base}/:send` : `${base}/${target}/${segment(name)}/:send`;
  const send = useChange(
    (api) => api.call("POST", path, { query: { "api-version": version.dataPlane }, headers: { "content-type": type }, body: type === "application/json" ? JSON.parse(text) : text }),
    "The message was accepted.",
  );
  return (
    <Card role="group" aria-label="Server">
      <Subtitle2 as="h2">Server (REST)</Subtitle2>
      <form
        className={styles.fields}
        onSubmit={(e) => {
          e.preventDefault();
          void send.run();
        }}
      >
        <Field label="Hub">
          <Input value={hub} onChange={(_, d) => setHub(d.value.trim())} />
        </Field>
        <Field label="To">
          <Select value={target} onChange={(_, d) => setTarget(d.value as Target)}>
            {Object.entries(targets).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </Select>
        </Field>
        {target !== "all" && (
          <Field label={{ groups: "Group", users: "User ID", connections: "Connection ID" }[target]}>
            <Input value={name} onChange={(_, d) => setName(d.value)} />
          </Field>
        )}
        <Field label="Content type">
          <Select value={type} onChange={(_, d) => setType(d.value)}>
            <option>text/plain</option>
            <option>application/json</option>
          </Select>
        </Field>
        <Field label="Message">
          <Textarea value={text} onChange={(_, d) => setText(d.value)} />
        </Field>
        <Act ask={askDataPlane(instance)} type="submit" appearance="primary" busy={send.busy} disabled={target !== "all" && name === ""}>
          Send
        </Act>
        {send.error && <ErrorBar error={send.error} />}
      </form>
    </Card>
  );
}
