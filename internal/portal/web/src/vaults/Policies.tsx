import { makeStyles, Text, tokens } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { DeleteRegular } from "@fluentui/react-icons/svg/delete";
import { useState } from "react";
import { type AccessPolicy, type Vault, version } from "../api/arm";
import { PrincipalPicker, usePrincipals } from "../access/principals";
import { Choices } from "../shared/Choices";
import { ConfirmChange } from "../shared/Confirm";
import { Empty, Note } from "../shared/feedback";
import { Grid } from "../shared/Grid";
import { Act } from "../shared/may";

const useStyles = makeStyles({
  column: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalL, alignItems: "stretch" },
  start: { alignSelf: "flex-start" },
});

const query = { "api-version": version.vaults };
const permissions = ["get", "list", "set", "delete", "backup", "restore", "recover", "purge"];

/** Policies says who may do what with the secrets of a vault. */
export function Policies({ vault }: { vault: Vault }) {
  const styles = useStyles();
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState<AccessPolicy | null>(null);
  const principals = usePrincipals();
  const edit = (how: string) => `${vault.id}/accessPolicies/${how}`;
  const add = (
    <Act className={styles.start} ask={{ method: "PUT", path: edit("add") }} appearance="primary" icon={<AddRegular />} onClick={() => setAdding(true)}>
      Create
    </Act>
  );
  const policies = vault.properties.accessPolicies;
  return (
    <div className={styles.column}>
      {vault.properties.enableRbacAuthorization && <Note intent="warning">In this vault role assignments decide. Access policies are kept, but have no effect.</Note>}
      {policies.length === 0 ? (
        <Empty title="No access policy yet" action={add}>
          Grant the instance's managed identity the secret permission Get, so that it can read what event handlers' URLs refer to.
        </Empty>
      ) : (
        <>
          {add}
          <Grid
            label="Access policies"
            rows={policies}
            id={(p) => p.objectId}
            columns={[
              { name: "Principal", cell: (p) => principals.nameOf(p.objectId) },
              { name: "Object ID", cell: (p) => p.objectId },
              { name: "Secret permissions", cell: (p) => p.permissions.secrets.join(", ") },
              {
                name: "Action",
                width: "120px",
                cell: (p) => (
                  <Act ask={{ method: "PUT", path: edit("remove") }} size="small" icon={<DeleteRegular />} aria-label={`Remove the policy of ${principals.nameOf(p.objectId)}`} onClick={() => setRemoving(p)}>
                    Remove
                  </Act>
                ),
              },
            ]}
          />
        </>
      )}
      {adding && <AddPolicy vault={vault} onClose={() => setAdding(false)} />}
      {removing !== null && (
        <ConfirmChange
          title="Remove access policy"
          verb="Remove"
          act={(api) => api.call("PUT", edit("remove"), { query, body: { properties: { accessPolicies: [removing] } } })}
          success="The access policy was removed."
          onClose={() => setRemoving(null)}
        >
          <Text>{principals.nameOf(removing.objectId)} may not use the secrets of this vault any more.</Text>
        </ConfirmChange>
      )}
    </div>
  );
}

function AddPolicy({ vault, onClose }: { vault: Vault; onClose(): void }) {
  const [principal, setPrincipal] = useState("");
  const [given, setGiven] = useState(["get"]);
  return (
    <ConfirmChange
      title="Create an access policy"
      verb="Create"
      disabled={principal === "" || given.length === 0}
      act={(api) =>
        api.call("PUT", `${vault.id}/accessPolicies/add`, {
          query,
          body: { properties: { accessPolicies: [{ tenantId: vault.properties.tenantId, objectId: principal, permissions: { secrets: given, keys: [], certificates: [] } }] } },
        })
      }
      success="The access policy counts at once."
      onClose={onClose}
    >
      <Choices label="Secret permissions" options={permissions} chosen={given} onChange={setGiven} />
      <PrincipalPicker value={principal} onChange={setPrincipal} />
    </ConfirmChange>
  );
}
