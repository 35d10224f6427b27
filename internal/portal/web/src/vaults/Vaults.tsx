import { Checkbox, Field, Input } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { useState } from "react";
import { Link } from "react-router";
import { type List, resourceGroup, segment, type Vault, version } from "../api/arm";
import { useReading, useSubscription } from "../app/api";
import { ConfirmChange } from "../shared/Confirm";
import { Value } from "../shared/Copy";
import { Empty } from "../shared/feedback";
import { Listing } from "../shared/Grid";
import { Act } from "../shared/may";
import { Page } from "../shared/Page";

const provider = "providers/Microsoft.KeyVault/vaults";

/** Vaults lists the embedded key vaults. */
export function Vaults() {
  const subscription = useSubscription();
  const root = subscription.data && `/subscriptions/${subscription.data.subscriptionId}`;
  const list = useReading<List<Vault>>(["vaults"], root && `${root}/${provider}`, version.vaults);
  const [adding, setAdding] = useState(false);
  const error = subscription.error ?? list.error;
  const add = (
    <Act ask={{ method: "PUT", path: `${root ?? ""}/resourceGroups/default/${provider}/new` }} appearance="primary" icon={<AddRegular />} onClick={() => setAdding(true)}>
      Create
    </Act>
  );
  return (
    <Page title="Key vaults" about="A vault keeps the secrets that event handlers' URLs refer to. The instance reads them with its managed identity, so they are in no setting." actions={add}>
      <Listing
        label="Key vaults"
        rows={list.data?.value}
        error={error}
        empty={
          <Empty title="No key vault yet" action={add}>
            Create one, put a secret into it, and grant the instance's identity the secret permission Get.
          </Empty>
        }
        id={(v) => v.id}
        columns={[
          { name: "Name", cell: (v) => <Link to={`/vaults/${segment(resourceGroup(v.id))}/${segment(v.name)}`}>{v.name}</Link> },
          { name: "Resource group", cell: (v) => resourceGroup(v.id) },
          { name: "Vault URI", cell: (v) => <Value text={v.properties.vaultUri} what="vault URI" /> },
          { name: "Permission model", cell: (v) => (v.properties.enableRbacAuthorization ? "Role assignments" : "Access policies") },
        ]}
      />
      {adding && subscription.data && root !== undefined && <Create root={root} tenant={subscription.data.tenantId} onClose={() => setAdding(false)} />}
    </Page>
  );
}

function Create({ root, tenant, onClose }: { root: string; tenant: string; onClose(): void }) {
  const [name, setName] = useState("");
  const [roles, setRoles] = useState(false);
  return (
    <ConfirmChange
      title="Create key vault"
      verb="Create"
      disabled={name === ""}
      act={(api) =>
        api.call("PUT", `${root}/resourceGroups/default/${provider}/${segment(name)}`, {
          query: { "api-version": version.vaults },
          body: { location: "local", properties: { tenantId: tenant, sku: { family: "A", name: "standard" }, accessPolicies: [], enableRbacAuthorization: roles } },
        })
      }
      success={`The vault ${name} was created.`}
      onClose={onClose}
    >
      <Field label="Name" required hint="3 to 24 letters, digits and hyphens.">
        <Input value={name} onChange={(_, d) => setName(d.value.trim())} />
      </Field>
      <Checkbox label="Role assignments decide (otherwise access policies)" checked={roles} onChange={(_, d) => setRoles(d.checked === true)} />
    </ConfirmChange>
  );
}
