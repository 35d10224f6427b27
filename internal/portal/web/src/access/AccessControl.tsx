import { Dropdown, Field, Option, Text } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { DeleteRegular } from "@fluentui/react-icons/svg/delete";
import { useState } from "react";
import { useSearchParams } from "react-router";
import { lastSegment, type List, type RoleAssignment, type RoleDefinition, version } from "../api/arm";
import { useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { ConfirmChange } from "../shared/Confirm";
import { Empty, ErrorBar, Loading } from "../shared/feedback";
import { Grid } from "../shared/Grid";
import { Act } from "../shared/may";
import { Page } from "../shared/Page";
import { PrincipalPicker, usePrincipals } from "./principals";

const query = { "api-version": version.authorization };

/** AccessControl is the role assignments that count at an instance. */
export function AccessControl() {
  const instance = useCurrent();
  const [search] = useSearchParams();
  const only = search.get("principal");
  const base = `${instance.id}/providers/Microsoft.Authorization`;
  const assignments = useReading<List<RoleAssignment>>(["assignments"], `${base}/roleAssignments`, version.authorization);
  const definitions = useReading<List<RoleDefinition>>(["definitions"], `${base}/roleDefinitions`, version.authorization, 60_000);
  const principals = usePrincipals();
  const [adding, setAdding] = useState(false);
  const [deleting, setDeleting] = useState<RoleAssignment | null>(null);
  const roleName = (a: RoleAssignment) => definitions.data?.value.find((d) => d.name === lastSegment(a.properties.roleDefinitionId))?.properties.roleName ?? lastSegment(a.properties.roleDefinitionId);
  const rows = (assignments.data?.value ?? []).filter((a) => only === null || a.properties.principalId === only);
  const add = (
    <Act ask={{ method: "PUT", path: `${base}/roleAssignments/new` }} appearance="primary" icon={<AddRegular />} onClick={() => setAdding(true)}>
      Add role assignment
    </Act>
  );
  return (
    <Page title="Access control (IAM)" about="Who may do what with this instance, without any key. A role that is assigned counts at once." actions={add}>
      {assignments.error && <ErrorBar error={assignments.error} />}
      {assignments.data === undefined && !assignments.error && <Loading />}
      {only !== null && <Text>Only the roles of {principals.nameOf(only)}.</Text>}
      {assignments.data !== undefined && rows.length === 0 && (
        <Empty title="No role assignment" action={add}>
          Whoever holds the admin token may do everything. Assign a role to let a managed identity, an application or a person of a trusted issuer do less than that.
        </Empty>
      )}
      {rows.length > 0 && (
        <Grid
          label="Role assignments"
          rows={rows}
          id={(a) => a.id}
          columns={[
            { name: "Principal", cell: (a) => principals.nameOf(a.properties.principalId) },
            { name: "Object ID", cell: (a) => a.properties.principalId },
            { name: "Role", cell: roleName },
            { name: "Scope", cell: (a) => (a.properties.scope.toLowerCase() === instance.id.toLowerCase() ? "This resource" : a.properties.scope) },
            {
              name: "Action",
              width: "120px",
              cell: (a) => (
                <Act
                  ask={{ method: "DELETE", path: a.id }}
                  size="small"
                  icon={<DeleteRegular />}
                  aria-label={`Remove ${roleName(a)} from ${principals.nameOf(a.properties.principalId)}`}
                  onClick={() => setDeleting(a)}
                >
                  Remove
                </Act>
              ),
            },
          ]}
        />
      )}
      {adding && <AddAssignment base={base} definitions={definitions.data?.value ?? []} onClose={() => setAdding(false)} />}
      {deleting !== null && (
        <ConfirmChange
          title="Remove role assignment"
          verb="Remove"
          act={(api) => api.call("DELETE", deleting.id, { query })}
          success="The role assignment was removed. It does not count any more."
          onClose={() => setDeleting(null)}
        >
          <Text>
            {principals.nameOf(deleting.properties.principalId)} loses the role {roleName(deleting)}.
          </Text>
        </ConfirmChange>
      )}
    </Page>
  );
}

function AddAssignment({ base, definitions, onClose }: { base: string; definitions: RoleDefinition[]; onClose(): void }) {
  const [role, setRole] = useState("");
  const [principal, setPrincipal] = useState("");
  const chosen = definitions.find((d) => d.id === role);
  const known = usePrincipals().list.some((p) => p.id === principal);
  return (
    <ConfirmChange
      title="Add role assignment"
      verb="Assign"
      disabled={role === "" || principal === ""}
      act={(api) =>
        api.call("PUT", `${base}/roleAssignments/${crypto.randomUUID()}`, {
          query,
          body: { properties: { roleDefinitionId: role, principalId: principal, ...(known ? {} : { principalType: "User" }) } },
        })
      }
      success="The role counts at once."
      onClose={onClose}
    >
      <Field label="Role" hint={chosen?.properties.description}>
        <Dropdown placeholder="Select a role" value={chosen?.properties.roleName ?? ""} selectedOptions={[role]} onOptionSelect={(_, d) => setRole(d.optionValue ?? "")}>
          {definitions.map((d) => (
            <Option key={d.id} value={d.id}>
              {d.properties.roleName}
            </Option>
          ))}
        </Dropdown>
      </Field>
      <PrincipalPicker value={principal} onChange={setPrincipal} />
    </ConfirmChange>
  );
}
