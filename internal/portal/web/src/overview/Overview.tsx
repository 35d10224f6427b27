import { Card, Caption1, makeStyles, Text, Title3, tokens } from "@fluentui/react-components";
import { Link } from "react-router";
import { type List, type Live, version } from "../api/arm";
import { isFault, type TraceRecord } from "../api/trace";
import { instancePath, often, useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { Value } from "../shared/Copy";
import { Facts } from "../shared/Facts";
import { ErrorBar } from "../shared/feedback";
import { Page, Section } from "../shared/Page";
import { Chart } from "./Chart";
import { perInterval, useHistory } from "./history";

const useStyles = makeStyles({
  tiles: { display: "grid", gridTemplateColumns: "repeat(auto-fill, minmax(220px, 1fr))", gap: tokens.spacingHorizontalL },
  charts: { display: "grid", gridTemplateColumns: "repeat(auto-fit, minmax(320px, 1fr))", gap: tokens.spacingHorizontalL },
});

/** Overview is where an instance is reached and how it is doing now. */
export function Overview() {
  const styles = useStyles();
  const instance = useCurrent();
  const live = useReading<Live>(["live"], `${instance.id}/live`, version.webPubSub, often);
  const events = useReading<List<TraceRecord>>(["deliveries"], `${instance.id}/trace`, version.webPubSub, often, { kind: "delivery", last: "500" });
  const connections = useHistory(instance.id, live.data?.connections, live.dataUpdatedAt);
  const records = events.data?.value ?? [];
  const failed = records.filter(isFault);
  const page = (name: string) => instancePath(instance.id, instance.name, name);
  const endpoint = live.data?.endpoint ?? "";
  return (
    <Page title={instance.name} about="Web PubSub: real-time messaging over WebSockets, which calls your event handlers as its managed identity.">
      {live.error && <ErrorBar error={live.error} />}
      <Section title="Essentials">
        <Facts
          facts={[
            ["Endpoint", endpoint && <Value text={endpoint} what="endpoint" />],
            ["Client URL", endpoint && <Value text={`${endpoint.replace(/^http/, "ws")}/client/hubs/{hub}`} what="client URL" />],
            ["Host name", <Value text={instance.properties.hostName} what="host name" />],
            ["Resource id", <Value text={instance.id} what="resource id" />],
            ["Location", instance.location],
            ["Pricing tier", `${instance.sku.tier}, ${instance.sku.capacity} ${instance.sku.capacity === 1 ? "unit" : "units"}`],
            ["Managed identity", <Link to={page("identity")}>{identityName(instance.identity.type)}</Link>],
          ]}
        />
      </Section>
      <Section title="Now">
        <div className={styles.tiles}>
          <Tile name="Connections" value={live.data?.connections} to={page("connections")} />
          <Tile name="Users" value={live.data?.users} to={page("connections")} />
          <Tile name="Hubs in use" value={live.data?.hubs.filter((h) => h.connections > 0).length} to={page("settings")} />
          <Tile name="Failed events (recent)" value={events.data && failed.length} to={page("trace")} />
        </div>
      </Section>
      <Section title="Charts">
        <div className={styles.charts}>
          <Chart title="Connections" unit="connections" values={connections} caption="since this page was opened, every 2 seconds" />
          <Chart title="Events to handlers" unit="events" values={perInterval(records.filter((r) => !isFault(r)))} caption="delivered, in the last 10 minutes" />
          <Chart title="Failed events" unit="events" values={perInterval(failed)} caption="in the last 10 minutes" bad />
        </div>
      </Section>
    </Page>
  );
}

function identityName(type: string): string {
  return { SystemAssigned: "System assigned", UserAssigned: "User assigned" }[type] ?? "None: switch one on";
}

function Tile({ name, value, to }: { name: string; value: number | undefined; to: string }) {
  return (
    <Card>
      <Caption1>{name}</Caption1>
      <Title3>{value ?? "…"}</Title3>
      <Text size={200}>
        <Link to={to} aria-label={`${name}: show`}>
          Show
        </Link>
      </Text>
    </Card>
  );
}
