"""An event handler that trusts nobody: Python's standard library, and PyJWT with its crypto extra for the tokens.

    pip install "pyjwt[crypto]"
    SSL_CERT_FILE=.tabard/ca.pem python3 handler.py .tabard/ready.json api://my-handler [CALLER ...]

CALLER are object ids or client ids that may call; without any, every application of the tenant may.

PyJWT looks at the issuer's keys anew for every token with an unknown key id: where strangers reach the handler, put
`tabard guard` in front, which looks once in five minutes.
"""

import json
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

MAX_EVENT = (1 << 20) + (64 << 10)  # the service sends at most 1 MiB and what is around it


class Refused(Exception):
    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


class Verifier:
    """Verifies access tokens of the given issuers for one audience."""

    def __init__(self, issuers, audience, callers=()):
        self.audience, self.callers, self.keys = audience, set(callers), {}
        for issuer in issuers:
            with urllib.request.urlopen(issuer.rstrip("/") + "/.well-known/openid-configuration", timeout=5) as answer:
                document = json.load(answer)
            if document["issuer"] != issuer:
                raise ValueError(f"the discovery document of {issuer} names {document['issuer']}")
            self.keys[issuer] = jwt.PyJWKClient(document["jwks_uri"], lifespan=3600, timeout=5)

    def verify(self, header):
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(401, "no access token")
        try:
            # The unverified issuer only chooses whose keys to try.
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
            if issuer not in self.keys:
                raise Refused(401, f"issuer is {issuer}")
            claims = jwt.decode(
                token,
                self.keys[issuer].get_signing_key_from_jwt(token).key,
                algorithms=["RS256"],
                audience=self.audience,
                issuer=issuer,
                leeway=300,
                options={"require": ["exp", "aud", "iss", "oid", "tid"]},
            )
        except jwt.PyJWKClientConnectionError as e:
            raise Refused(503, str(e)) from e  # the issuer does not answer: not the caller's fault
        except jwt.PyJWTError as e:
            raise Refused(401, str(e)) from e
        if not isinstance(claims["aud"], str) or f"/{claims['tid']}/" not in issuer:
            raise Refused(401, "audience or tenant do not fit")
        if claims.get("scp") or claims.get("idtyp", "app") != "app" or claims.get("sub") != claims["oid"]:
            raise Refused(403, "not an application's token")
        client = claims.get("azp") if claims.get("ver") == "2.0" else claims.get("appid")
        if self.callers and not self.callers & {claims["oid"], client}:
            raise Refused(403, "the caller is not allowed")
        return claims


class Handler(BaseHTTPRequestHandler):
    verifier = None

    def do_OPTIONS(self):  # the endpoint validation; Tabard sends the token with it
        self.guarded(lambda: self.answer(200, headers={"WebHook-Allowed-Origin": "*"}))

    def do_POST(self):
        self.guarded(self.event)

    def event(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "") or int(self.headers.get("Content-Length", 0)) > MAX_EVENT:
            raise Refused(413, "too large")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("ce-type", "").startswith("azure.webpubsub.user."):
            user = self.headers.get("ce-userId", "somebody")
            self.answer(200, f"{user} said {body.decode()}".encode(), {"Content-Type": "text/plain; charset=utf-8"})
        else:
            self.answer(204)

    def guarded(self, then):
        try:
            if len(self.headers.get_all("Authorization", [])) > 1:
                raise Refused(401, "several Authorization headers")
            self.verifier.verify(self.headers.get("Authorization"))
            then()
        except Refused as e:
            self.close_connection = True
            self.answer(e.status, headers={} if e.status in (413, 503) else {"WWW-Authenticate": 'Bearer error="invalid_token"'})
            self.log_error("refused: %s", e)

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        service = json.load(file)
    Handler.verifier = Verifier([service["issuer"], service["issuerV2"]], sys.argv[2], sys.argv[3:])
    ThreadingHTTPServer(("127.0.0.1", 7070), Handler).serve_forever()
