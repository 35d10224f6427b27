import { Tab, TabList } from "@fluentui/react-components";
import { useSearchParams } from "react-router";
import { useCurrent } from "../app/instance";
import { Note } from "../shared/feedback";
import { Page } from "../shared/Page";
import { SystemAssigned } from "./SystemAssigned";
import { UserAssigned } from "./UserAssigned";

/** IdentityPage chooses the one managed identity of an instance, in the two tabs that Azure has. */
export function IdentityPage() {
  const instance = useCurrent();
  const [query, setQuery] = useSearchParams();
  const tab = query.get("tab") === "user" ? "user" : "system";
  const source = instance.properties.tabard?.identitySource;
  return (
    <Page title="Identity" about="With a managed identity the service proves who it is to your event handlers and key vaults. It supports only one: a system-assigned identity or a user-assigned identity.">
      {source !== undefined && <Note>Tokens of this instance come from another issuer ({source.type}), which decides who it is there.</Note>}
      <TabList selectedValue={tab} onTabSelect={(_, d) => setQuery({ tab: String(d.value) }, { replace: true })}>
        <Tab value="system" id="tab-system" aria-controls="panel">
          System assigned
        </Tab>
        <Tab value="user" id="tab-user" aria-controls="panel">
          User assigned
        </Tab>
      </TabList>
      <div role="tabpanel" id="panel" aria-labelledby={`tab-${tab}`}>
        {tab === "user" ? <UserAssigned instance={instance} /> : <SystemAssigned instance={instance} />}
      </div>
    </Page>
  );
}
