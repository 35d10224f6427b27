import type { Application } from "../api/arm";
import type { Answer, Client } from "../api/client";

/** registerApplication makes an application and its service principal, as Azure's portal does. */
export async function registerApplication(api: Client, displayName: string, uri: string): Promise<Answer<Application>> {
  const made = await api.call<Application>("POST", "/v1.0/applications", { body: { displayName, identifierUris: uri === "" ? [] : [uri] } });
  await api.call("POST", "/v1.0/servicePrincipals", { body: { appId: made.body.appId } });
  return made;
}
