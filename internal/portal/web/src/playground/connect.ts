import { type Instance, segment, version } from "../api/arm";
import type { Client } from "../api/client";
import type { Ask } from "../shared/may";

/** What a client is to be. */
export interface ClientOptions {
  hub: string;
  userId: string;
  groups: string;
  subprotocol: string; // empty: a simple WebSocket client
  mayAll: boolean; // may join and send to every group
}

export const pubsub = "json.webpubsub.azure.v1";

/** dataPlane is the REST API of an instance as this browser reaches it. */
export function dataPlane(instance: string, hub: string): string {
  return `/tabard/v1/instances/${segment(instance)}/api/hubs/${segment(hub)}`;
}

/** askDataPlane asks whether the caller may use that API here: whoever may list the instance's keys may. */
export function askDataPlane(instance: Instance): Ask {
  return { method: "POST", path: `${instance.id}/listKeys` };
}

/** generateUrl makes a client access URL, as Azure's Client URL Generator does. */
export async function generateUrl(api: Client, instance: string, endpoint: string, o: ClientOptions): Promise<string> {
  const roles = o.mayAll ? ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"] : [];
  const query = new URLSearchParams({ "api-version": version.dataPlane });
  if (o.userId !== "") query.set("userId", o.userId);
  for (const role of roles) query.append("role", role);
  for (const group of names(o.groups)) query.append("group", group);
  const { token } = (await api.call<{ token: string }>("POST", `${dataPlane(instance, o.hub)}/:generateToken?${query}`)).body;
  return clientUrl(endpoint, o.hub, token, location.protocol === "https:");
}

/** clientUrl is the address that a client connects to. A page that came over TLS may open no other sockets than such. */
export function clientUrl(endpoint: string, hub: string, token: string, secure: boolean): string {
  const url = new URL(`${endpoint}/client/hubs/${segment(hub)}`);
  url.protocol = secure || url.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("access_token", token);
  return url.toString();
}

/** names splits a list at its commas. */
export function names(list: string): string[] {
  return list
    .split(",")
    .map((n) => n.trim())
    .filter((n) => n !== "");
}
