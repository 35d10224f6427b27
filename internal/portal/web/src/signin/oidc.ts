import * as oauth from "oauth4webapi";
import { startSession } from "./session";

/** OIDC is how to sign in at the configured issuer, from settings.json. */
export interface OIDC {
  issuer: string;
  clientId: string;
  scope: string;
  resource?: string;
}

/** Pending is what must be remembered while the browser is at the issuer. */
interface Pending {
  verifier: string;
  state: string;
  nonce: string;
  hash: string;
}

const key = "tabard.signin";

/** redirectUri is this page's own address, without query and fragment. */
function redirectUri(): string {
  return `${location.origin}${location.pathname}`;
}

async function discover(settings: OIDC): Promise<oauth.AuthorizationServer> {
  const issuer = new URL(settings.issuer);
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: "oidc" }));
}

/** beginSignIn leaves the page for the issuer (authorization code with PKCE). It resolves only by failing. */
export async function beginSignIn(settings: OIDC): Promise<void> {
  const server = await discover(settings);
  if (server.authorization_endpoint === undefined) throw new Error("The issuer has no authorization endpoint.");
  const pending: Pending = {
    verifier: oauth.generateRandomCodeVerifier(),
    state: oauth.generateRandomState(),
    nonce: oauth.generateRandomNonce(),
    hash: location.hash,
  };
  const url = new URL(server.authorization_endpoint);
  const parameters: Record<string, string | undefined> = {
    client_id: settings.clientId,
    redirect_uri: redirectUri(),
    response_type: "code",
    scope: settings.scope,
    resource: settings.resource,
    code_challenge: await oauth.calculatePKCECodeChallenge(pending.verifier),
    code_challenge_method: "S256",
    state: pending.state,
    nonce: pending.nonce,
    // In the fragment, if the issuer can: then the code reaches no server but by the request that redeems it.
    response_mode: server.response_modes_supported?.includes("fragment") ? "fragment" : undefined,
  };
  for (const [name, value] of Object.entries(parameters)) if (value) url.searchParams.set(name, value);
  sessionStorage.setItem(key, JSON.stringify(pending));
  location.assign(url);
}

/** returnedParameters are what the issuer sent the browser back with, if that is how it came here. */
export function returnedParameters(): URLSearchParams | null {
  for (const text of [location.hash.slice(1), location.search.slice(1)]) {
    const parameters = new URLSearchParams(text);
    if (parameters.has("state") && (parameters.has("code") || parameters.has("error"))) return parameters;
  }
  return null;
}

/** finishSignIn redeems the code, starts the session and restores the place that the user came from. */
export async function finishSignIn(settings: OIDC, returned: URLSearchParams): Promise<void> {
  const pending = JSON.parse(sessionStorage.getItem(key) ?? "null") as Pending | null;
  sessionStorage.removeItem(key);
  history.replaceState(null, "", `${location.pathname}${pending?.hash ?? ""}`);
  if (pending === null) throw new Error("This sign-in was not begun here. Try again.");
  const server = await discover(settings);
  const client: oauth.Client = { client_id: settings.clientId };
  const parameters = oauth.validateAuthResponse(server, client, returned, pending.state);
  const answer = await oauth.authorizationCodeGrantRequest(server, client, oauth.None(), parameters, redirectUri(), pending.verifier, {
    additionalParameters: settings.resource ? { resource: settings.resource } : undefined,
  });
  const tokens = await oauth.processAuthorizationCodeResponse(server, client, answer, { expectedNonce: pending.nonce });
  const claims = oauth.getValidatedIdTokenClaims(tokens);
  const name = claims?.["name"] ?? claims?.["preferred_username"] ?? claims?.sub;
  startSession({ token: tokens.access_token, kind: "oidc", name: String(name ?? "Signed in") });
}

/** explain words what went wrong at the issuer. */
export function explain(error: unknown): string {
  if (error instanceof oauth.AuthorizationResponseError || error instanceof oauth.ResponseBodyError) {
    return `The issuer refused: ${error.error}${error.error_description ? `, ${error.error_description}` : ""}.`;
  }
  if (error instanceof TypeError) return "The issuer cannot be reached from this browser, or does not admit this page (CORS).";
  return error instanceof Error ? error.message : String(error);
}
