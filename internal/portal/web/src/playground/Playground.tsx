import { Button, makeStyles, tokens } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { useState } from "react";
import { useSearchParams } from "react-router";
import { type Live, version } from "../api/arm";
import { useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { ErrorBar, Loading } from "../shared/feedback";
import { Page } from "../shared/Page";
import { ClientPanel } from "./ClientPanel";
import { SendByRest } from "./SendByRest";

const useStyles = makeStyles({
  clients: { display: "grid", gridTemplateColumns: "repeat(auto-fit, minmax(340px, 1fr))", gap: tokens.spacingHorizontalL, alignItems: "start" },
});

/** Playground has several clients side by side, and the server's side of them. */
export function Playground() {
  const styles = useStyles();
  const instance = useCurrent();
  const live = useReading<Live>(["live"], `${instance.id}/live`, version.webPubSub);
  const [clients, setClients] = useState([1, 2]);
  const [query] = useSearchParams();
  const hub = query.get("hub") ?? "chat";
  const endpoint = live.data?.endpoint;
  return (
    <Page
      title="Playground"
      about="Real clients in this browser: connect, join groups, send messages and events, and see every frame as it is. What happens to events on their way is in the Live trace."
      actions={
        <Button icon={<AddRegular />} onClick={() => setClients([...clients, Math.max(0, ...clients) + 1])}>
          Add client
        </Button>
      }
    >
      {live.error && <ErrorBar error={live.error} />}
      {endpoint === undefined ? (
        <Loading />
      ) : (
        <div className={styles.clients}>
          {clients.map((n) => (
            <ClientPanel key={n} number={n} hub={hub} endpoint={endpoint} onRemove={() => setClients(clients.filter((c) => c !== n))} />
          ))}
          <SendByRest hub={hub} />
        </div>
      )}
    </Page>
  );
}
