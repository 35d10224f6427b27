import type { SampleHandler } from "../quickstart/steps";
import type { OIDC } from "../signin/oidc";
import { apiRoot } from "./api";

/** loadSettings reads what this page may be told without a credential (portal.go). */
export async function loadSettings(): Promise<{ oidc: OIDC | null; sampleHandler: SampleHandler | null }> {
  const answer = await fetch(new URL("portal/settings.json", apiRoot), { cache: "no-store" });
  return (await answer.json()) as { oidc: OIDC | null; sampleHandler: SampleHandler | null };
}
