import { Tab, TabList } from "@fluentui/react-components";
import { Link, useParams, useSearchParams } from "react-router";
import { segment, type Vault, version } from "../api/arm";
import { useReading, useSubscription } from "../app/api";
import { Value } from "../shared/Copy";
import { ErrorBar, Loading } from "../shared/feedback";
import { Page } from "../shared/Page";
import { Policies } from "./Policies";
import { Secrets } from "./Secrets";

/** VaultPage is one vault: its secrets, and who may read them. */
export function VaultPage() {
  const { group = "", name = "" } = useParams();
  const [query, setQuery] = useSearchParams();
  const subscription = useSubscription();
  const path = subscription.data && `/subscriptions/${subscription.data.subscriptionId}/resourceGroups/${segment(group)}/providers/Microsoft.KeyVault/vaults/${segment(name)}`;
  const vault = useReading<Vault>(["vault"], path, version.vaults);
  const error = subscription.error ?? vault.error;
  if (vault.data === undefined) return error ? <ErrorBar error={error} /> : <Loading />;
  const tab = query.get("tab") === "policies" ? "policies" : "secrets";
  return (
    <Page title={`Key vault ${vault.data.name}`} about={<Link to="/vaults">All key vaults</Link>}>
      <Value text={vault.data.properties.vaultUri} what="vault URI" />
      <TabList selectedValue={tab} onTabSelect={(_, d) => setQuery({ tab: String(d.value) }, { replace: true })}>
        <Tab value="secrets" id="tab-secrets" aria-controls="panel">
          Secrets
        </Tab>
        <Tab value="policies" id="tab-policies" aria-controls="panel">
          Access policies
        </Tab>
      </TabList>
      <div role="tabpanel" id="panel" aria-labelledby={`tab-${tab}`}>
        {tab === "secrets" ? <Secrets vault={vault.data} /> : <Policies vault={vault.data} />}
      </div>
    </Page>
  );
}
