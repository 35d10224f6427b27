import { Field, Input, Text } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { DeleteRegular } from "@fluentui/react-icons/svg/delete";
import { useState } from "react";
import type { Application, List } from "../api/arm";
import { useReading } from "../app/api";
import { registerApplication } from "./register";
import { ConfirmChange } from "../shared/Confirm";
import { Value } from "../shared/Copy";
import { Empty } from "../shared/feedback";
import { Listing } from "../shared/Grid";
import { Act } from "../shared/may";
import { Page } from "../shared/Page";

const collection = "/v1.0/applications";

/** Applications lists what tokens can be issued for: each event handler has one that represents it. */
export function Applications() {
  const list = useReading<List<Application>>(["applications"], collection, undefined);
  const [adding, setAdding] = useState(false);
  const [deleting, setDeleting] = useState<Application | null>(null);
  const add = (
    <Act ask={{ method: "POST", path: collection }} appearance="primary" icon={<AddRegular />} onClick={() => setAdding(true)}>
      New registration
    </Act>
  );
  return (
    <Page title="Applications" about="An application is an audience: register one for each event handler, and have events carry tokens for it." actions={add}>
      <Listing
        label="Applications"
        rows={list.data?.value}
        error={list.error}
        empty={
          <Empty title="No application yet" action={add}>
            Register one that represents your event handler. Its Application ID, or its Application ID URI, is the audience that the handler demands.
          </Empty>
        }
        id={(a) => a.id}
        columns={[
          { name: "Display name", cell: (a) => a.displayName },
          { name: "Application (client) ID", cell: (a) => <Value text={a.appId} what="application ID" /> },
          { name: "Application ID URI", cell: (a) => a.identifierUris.map((u) => <Value key={u} text={u} what="application ID URI" />) },
          { name: "Token version", width: "110px", cell: (a) => a.api?.requestedAccessTokenVersion ?? 1 },
          {
            name: "Action",
            width: "120px",
            cell: (a) => (
              <Act ask={{ method: "DELETE", path: `${collection}/${a.id}` }} size="small" icon={<DeleteRegular />} aria-label={`Delete ${a.displayName}`} onClick={() => setDeleting(a)}>
                Delete
              </Act>
            ),
          },
        ]}
      />
      {adding && <Register onClose={() => setAdding(false)} />}
      {deleting !== null && (
        <ConfirmChange
          title="Delete application"
          verb="Delete"
          act={(api) => api.call("DELETE", `${collection}/${deleting.id}`)}
          success={`The application ${deleting.displayName} was deleted.`}
          onClose={() => setDeleting(null)}
        >
          <Text>No token is issued for {deleting.displayName} any more; events of handlers that have it as their audience fail.</Text>
        </ConfirmChange>
      )}
    </Page>
  );
}

function Register({ onClose }: { onClose(): void }) {
  const [name, setName] = useState("");
  const [uri, setUri] = useState("");
  return (
    <ConfirmChange
      title="Register an application"
      verb="Register"
      disabled={name.trim() === ""}
      act={(api) => registerApplication(api, name, uri)}
      success={`The application ${name} was registered.`}
      onClose={onClose}
    >
      <Field label="Name" required>
        <Input value={name} onChange={(_, d) => setName(d.value)} placeholder="my-handler" />
      </Field>
      <Field label="Application ID URI" hint="An address that names the application. It need not lead anywhere.">
        <Input value={uri} onChange={(_, d) => setUri(d.value.trim())} placeholder="api://my-handler" />
      </Field>
    </ConfirmChange>
  );
}
