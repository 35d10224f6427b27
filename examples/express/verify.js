// Verifies the access token that Web PubSub sends with every event: what @azure/web-pubsub-express leaves to you.
// Works with Tabard and with Microsoft Entra ID. Needs the package jose (version 6).
import { createRemoteJWKSet, decodeJwt, jwtVerify } from "jose";

const largestEvent = (1 << 20) + (64 << 10); // the service sends at most 1 MiB and what is around it

/**
 * verify returns an Express middleware that lets only requests with a good token pass; req.caller has its claims.
 *
 * issuers   addresses of issuers, as in iss: https://HOST/TENANT/ for version 1, https://HOST/TENANT/v2.0 for version 2
 * audience  your application's id or identifier URI
 * callers   object ids or client ids that may call; without them every application of the tenant may
 */
export function verify({ issuers, audience, callers }) {
  const trusted = issuers.map((issuer) => ({ issuer, ready: undefined }));
  const load = async (t) => {
    const answer = await fetch(t.issuer.replace(/\/?$/, "/") + ".well-known/openid-configuration", { redirect: "error", signal: AbortSignal.timeout(5000) });
    const document = await answer.json();
    if (!answer.ok || document.issuer !== t.issuer) throw new Error(`the discovery document of ${t.issuer} names ${document.issuer}`);
    return createRemoteJWKSet(new URL(document.jwks_uri), { cooldownDuration: 300_000 }); // unknown keys cause one look in 5 minutes
  };
  return async (req, res, next) => {
    const refuse = (status, error, why) => {
      if (status !== 413) res.set("WWW-Authenticate", `Bearer error="${error}", error_description="${why.replace(/[^ !#-[\]-~]/g, "?")}"`);
      res.status(status).end();
    };
    try {
      const [, token] = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(req.headers.authorization ?? "") ?? [];
      if (!token) return refuse(401, "invalid_token", "no access token");
      const { iss } = decodeJwt(token); // not verified: it only chooses whose keys to try
      const t = trusted.find((t) => t.issuer === iss);
      if (!t) return refuse(401, "invalid_token", `issuer is ${iss}, want ${issuers.join(" or ")}`);
      const keys = await (t.ready ??= load(t).catch((e) => { t.ready = undefined; throw e; }));
      const { payload: claims } = await jwtVerify(token, keys, {
        issuer: t.issuer, audience, algorithms: ["RS256"], clockTolerance: 300, requiredClaims: ["exp", "aud", "oid", "tid"],
      });
      if (typeof claims.aud !== "string") return refuse(401, "invalid_token", "a list of audiences");
      if (!t.issuer.includes(`/${claims.tid}/`)) return refuse(401, "invalid_token", "issuer and tenant differ");
      if (claims.scp || (claims.idtyp ?? "app") !== "app" || claims.sub !== claims.oid) return refuse(403, "insufficient_scope", "not an application's token");
      const client = claims.ver === "2.0" ? claims.azp : claims.appid;
      if (callers && !callers.includes(claims.oid) && !callers.includes(client)) return refuse(403, "insufficient_scope", "the caller is not allowed");
      if (!(Number(req.headers["content-length"] ?? 0) <= largestEvent) || req.headers["transfer-encoding"]) return refuse(413);
      req.caller = claims;
      next();
    } catch (e) {
      if (e.code?.startsWith("ERR_J")) return refuse(401, "invalid_token", e.message);
      console.error("a token could not be judged:", e.message);
      res.status(503).set("Retry-After", "1").end(); // the issuer does not answer: not the caller's fault
    }
  };
}
