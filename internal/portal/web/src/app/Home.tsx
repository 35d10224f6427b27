import { Button, Field, Input } from "@fluentui/react-components";
import { useState } from "react";
import { Navigate, useNavigate } from "react-router";
import { lastSegment, resourceGroup } from "../api/arm";
import { ErrorBar, Loading } from "../shared/feedback";
import { Page } from "../shared/Page";
import { instancePath, useInstances, useSubscription } from "./api";

/** Home goes on to the first instance, or lets whoever may not list them name one. */
export function Home() {
  const subscription = useSubscription();
  const instances = useInstances();
  const error = subscription.error ?? instances.error;
  const first = instances.data?.value[0];
  if (first !== undefined) return <Navigate to={instancePath(first.id, first.name)} replace />;
  if (error === null && instances.data === undefined) return <Loading />;
  return (
    <Page title="Web PubSub instances">
      {error && <ErrorBar error={error} />}
      <OpenById />
    </Page>
  );
}

function OpenById() {
  const navigate = useNavigate();
  const [id, setId] = useState("");
  return (
    <form
      onSubmit={(e) => {
        e.preventDefault();
        void navigate(instancePath(id, lastSegment(id)));
      }}
    >
      <Field label="Resource id of an instance" hint="Whoever has a role at one instance only cannot list them all, but can open that one.">
        <Input value={id} onChange={(_, d) => setId(d.value)} placeholder="/subscriptions/…/webPubSub/default" />
      </Field>
      <Button appearance="primary" type="submit" disabled={resourceGroup(id) === ""}>
        Open
      </Button>
    </form>
  );
}
