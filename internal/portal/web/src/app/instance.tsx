import { createContext, useContext } from "react";
import { Outlet, useParams } from "react-router";
import type { Instance } from "../api/arm";
import { ErrorBar, Loading } from "../shared/feedback";
import { instanceId, useInstance, useSubscription } from "./api";

const InstanceContext = createContext<Instance | null>(null);

/** InstanceScope shows the pages of the instance that the address names, once it is known. */
export function InstanceScope() {
  const { group = "", name = "" } = useParams();
  const subscription = useSubscription();
  if (subscription.error) return <ErrorBar error={subscription.error} />;
  if (subscription.data === undefined) return <Loading />;
  const id = instanceId(subscription.data.subscriptionId, group, name);
  return <Known id={id} key={id} />;
}

function Known({ id }: { id: string }) {
  const { data, error } = useInstance(id);
  if (data === undefined) return error ? <ErrorBar error={error} /> : <Loading />;
  return (
    <InstanceContext value={data}>
      <Outlet />
    </InstanceContext>
  );
}

/** useCurrent is the instance that the page is about. */
export function useCurrent(): Instance {
  const instance = useContext(InstanceContext);
  if (instance === null) throw new Error("useCurrent outside of an instance");
  return instance;
}
