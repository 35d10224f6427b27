import { Button, Field, Input, makeStyles, Select, tokens } from "@fluentui/react-components";
import { useRef, useState } from "react";

const useStyles = makeStyles({
  form: { display: "grid", gridTemplateColumns: "1fr 1fr", gap: tokens.spacingHorizontalM, alignItems: "end" },
  wide: { gridColumn: "1 / -1" },
});

const actions = { event: "Send event", sendToGroup: "Send to group", joinGroup: "Join group", leaveGroup: "Leave group" } as const;
type Action = keyof typeof actions;

/** frameFor is the message of json.webpubsub.azure.v1 for an action. */
export function frameFor(action: Action, name: string, text: string, ackId: number): string {
  const data = { dataType: "text", data: text };
  switch (action) {
    case "event":
      return JSON.stringify({ type: "event", event: name, ackId, ...data });
    case "sendToGroup":
      return JSON.stringify({ type: "sendToGroup", group: name, ackId, ...data });
    default:
      return JSON.stringify({ type: action, group: name, ackId });
  }
}

/** Actions are what a connected client can do. A simple client's every message is the event "message". */
export function Actions({ simple, send }: { simple: boolean; send(text: string): void }) {
  const styles = useStyles();
  const [action, setAction] = useState<Action>("event");
  const [name, setName] = useState("");
  const [text, setText] = useState("hello");
  const acks = useRef(0);
  const ofGroup = action !== "event";
  return (
    <form
      className={styles.form}
      onSubmit={(e) => {
        e.preventDefault();
        send(simple ? text : frameFor(action, name || (ofGroup ? "group1" : "message"), text, ++acks.current));
      }}
    >
      {!simple && (
        <>
          <Field label="Action">
            <Select value={action} onChange={(_, d) => setAction(d.value as Action)}>
              {Object.entries(actions).map(([value, label]) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </Select>
          </Field>
          <Field label={ofGroup ? "Group" : "Event name"}>
            <Input value={name} placeholder={ofGroup ? "group1" : "message"} onChange={(_, d) => setName(d.value)} />
          </Field>
        </>
      )}
      {(simple || action === "event" || action === "sendToGroup") && (
        <Field label="Text" className={styles.wide}>
          <Input value={text} onChange={(_, d) => setText(d.value)} />
        </Field>
      )}
      <Button type="submit" className={styles.wide}>
        {simple ? "Send" : actions[action]}
      </Button>
    </form>
  );
}
