import { type Instance, version } from "../api/arm";
import type { Answer, Client } from "../api/client";

/** assign makes the instance's identity what is given. */
export function assign(api: Client, instance: Instance, identity: object): Promise<Answer<Instance>> {
  return api.call<Instance>("PATCH", instance.id, { query: { "api-version": version.webPubSub }, body: { identity } });
}
