import { Badge, Button, Card, Checkbox, Field, Input, makeStyles, Select, Subtitle2, tokens, Tooltip } from "@fluentui/react-components";
import { DismissRegular } from "@fluentui/react-icons/svg/dismiss";
import { useState } from "react";
import { useCurrent } from "../app/instance";
import { useChange } from "../shared/change";
import { Copy } from "../shared/Copy";
import { ErrorBar } from "../shared/feedback";
import { Act } from "../shared/may";
import { Actions } from "./Actions";
import { askDataPlane, type ClientOptions, generateUrl, pubsub } from "./connect";
import { Frames } from "./Frames";
import { useSocket } from "./useSocket";

const useStyles = makeStyles({
  head: { display: "flex", alignItems: "center", gap: tokens.spacingHorizontalM },
  spring: { flexGrow: 1 },
  fields: { display: "grid", gridTemplateColumns: "1fr 1fr", gap: tokens.spacingHorizontalM },
  bar: { display: "flex", gap: tokens.spacingHorizontalS },
});

/** ClientPanel is one client. */
export function ClientPanel({ number, hub, endpoint, onRemove }: { number: number; hub: string; endpoint: string; onRemove(): void }) {
  const styles = useStyles();
  const instance = useCurrent();
  const socket = useSocket();
  const [options, setOptions] = useState<ClientOptions>({ hub, userId: `user${number}`, groups: "", subprotocol: pubsub, mayAll: true });
  const [url, setUrl] = useState("");
  const change = (some: Partial<ClientOptions>) => setOptions({ ...options, ...some });
  const connect = useChange(async (api) => {
    const generated = await generateUrl(api, instance.name, endpoint, options);
    setUrl(generated);
    socket.open(generated, options.subprotocol);
  }, `Client ${number} connects.`);
  const open = socket.state !== "closed";
  return (
    <Card role="group" aria-label={`Client ${number}`}>
      <div className={styles.head}>
        <Subtitle2 as="h2">Client {number}</Subtitle2>
        <Badge appearance="tint" color={socket.state === "open" ? "success" : "informative"} role="status">
          {{ closed: "Not connected", connecting: "Connecting…", open: "Connected" }[socket.state]}
        </Badge>
        <div className={styles.spring} />
        <Tooltip content={`Remove client ${number}`} relationship="label">
          <Button appearance="subtle" icon={<DismissRegular />} onClick={onRemove} />
        </Tooltip>
      </div>
      {!open && (
        <>
          <div className={styles.fields}>
            <Field label="Hub">
              <Input value={options.hub} onChange={(_, d) => change({ hub: d.value.trim() })} />
            </Field>
            <Field label="User ID">
              <Input value={options.userId} onChange={(_, d) => change({ userId: d.value })} />
            </Field>
            <Field label="Subprotocol">
              <Select value={options.subprotocol} onChange={(_, d) => change({ subprotocol: d.value })}>
                <option value={pubsub}>{pubsub}</option>
                <option value="">None (simple WebSocket)</option>
              </Select>
            </Field>
            <Field label="Groups" hint="Joined at once, separated by commas.">
              <Input value={options.groups} onChange={(_, d) => change({ groups: d.value })} />
            </Field>
          </div>
          <Checkbox label="May join and send to every group" checked={options.mayAll} onChange={(_, d) => change({ mayAll: d.checked === true })} />
        </>
      )}
      <div className={styles.bar}>
        {open ? (
          <Button onClick={socket.close}>Disconnect</Button>
        ) : (
          <Act ask={askDataPlane(instance)} appearance="primary" busy={connect.busy} disabled={options.hub === ""} onClick={() => void connect.run()}>
            Connect
          </Act>
        )}
        <Button appearance="subtle" disabled={socket.frames.length === 0} onClick={socket.clear}>
          Clear
        </Button>
      </div>
      {connect.error && <ErrorBar error={connect.error} />}
      {open && url !== "" && (
        <span>
          Client URL <Copy text={url} what="client URL" />
        </span>
      )}
      {socket.state === "open" && <Actions simple={options.subprotocol === ""} send={socket.send} />}
      <Frames label={`Frames of client ${number}`} frames={socket.frames} />
    </Card>
  );
}
