"""azure-keyvault-secrets for Python against an embedded vault of the built binary, with a managed identity and the check
of the challenge's resource left on: checklist 3 of the key-vault specification. Ends with 0 if everything is as it must be.
Client secrets are left to the other languages: Debian's azure-identity asks Microsoft about every host that it does not
know, and has no option yet that stops it.

Needs Debian's own python3 and packages.sh."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".packages/root/usr/lib/python3/dist-packages"))

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient

# Names below localhost are this machine, as most systems' resolvers have it and some minimal ones have not.
_lookup = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: _lookup("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **named)


class Service:
    """The built binary with data of its own."""

    def __init__(self):
        self.data = tempfile.mkdtemp(prefix="tabard-")
        binary = os.path.join(HERE, "../../bin/tabard")
        self.process = subprocess.Popen(
            [binary, "dev", "--data", self.data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with open(os.path.join(self.data, "ready.json")) as f:
                    self.ready = json.load(f)
                return
            except (FileNotFoundError, ValueError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit("the service is not ready")
                time.sleep(0.02)

    def admin(self, method, path, body=None):
        request = urllib.request.Request(self.ready["adminUrl"] + path, method=method, data=None if body is None else json.dumps(body).encode(),
                                         headers={"Authorization": "Bearer " + self.ready["adminToken"], "Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        shutil.rmtree(self.data)


def refused(kind, call):
    try:
        call()
    except kind as e:
        return e
    raise AssertionError("it was not refused")


def everything(client, origin):
    first = client.set_secret("hookkey", "s3cr3t", content_type="text/plain", tags={"env": "dev"})
    assert first.id.startswith(origin + "/secrets/hookkey/"), first.id
    client.set_secret("hookkey", "second")
    assert client.get_secret("hookkey").value == "second"
    pinned = client.get_secret("hookkey", first.properties.version)
    assert (pinned.value, pinned.properties.tags) == ("s3cr3t", {"env": "dev"}), pinned
    updated = client.update_secret_properties("hookkey", first.properties.version, enabled=False)
    assert updated.enabled is False and updated.tags == {"env": "dev"}, updated
    assert refused(HttpResponseError, lambda: client.get_secret("hookkey", first.properties.version)).status_code == 403
    for i in range(26):  # more than a page
        client.set_secret(f"s{i}", "x")
    assert len(list(client.list_properties_of_secrets())) == 27
    assert len(list(client.list_properties_of_secret_versions("hookkey"))) == 2
    saved = client.backup_secret("hookkey")
    deleted = client.begin_delete_secret("hookkey").result()
    assert deleted.recovery_id == origin + "/deletedsecrets/hookkey", deleted.recovery_id
    refused(ResourceNotFoundError, lambda: client.get_secret("hookkey"))
    refused(ResourceExistsError, lambda: client.set_secret("hookkey", "x"))
    assert client.get_deleted_secret("hookkey").name == "hookkey"
    assert [d.name for d in client.list_deleted_secrets()] == ["hookkey"]
    recovering = client.begin_recover_deleted_secret("hookkey")
    recovering.wait()
    assert recovering.result().name == "hookkey"
    client.begin_delete_secret("hookkey").wait()
    client.purge_deleted_secret("hookkey")
    assert client.restore_secret_backup(saved).name == "hookkey"
    assert client.get_secret("hookkey").value == "second"


def main():
    service = Service()
    try:
        r = service.ready
        os.environ["REQUESTS_CA_BUNDLE"] = r["caFile"]
        group = f"/subscriptions/{r['subscriptionId']}/resourceGroups/default/providers"
        identity = f"{group}/Microsoft.ManagedIdentity/userAssignedIdentities/keeper"
        principal = service.admin("PUT", identity + "?api-version=2023-01-31", {"location": "local"})["properties"]["principalId"]
        os.environ.update(service.admin("POST", identity + "/tabardEnvironment", {})["environment"])
        vault = service.admin("PUT", f"{group}/Microsoft.KeyVault/vaults/hooks?api-version=2024-11-01", {
            "location": "local", "properties": {"accessPolicies": [{"tenantId": r["tenantId"], "objectId": principal, "permissions": {"secrets": ["all", "purge"]}}]}})
        url = vault["properties"]["vaultUri"]
        client = SecretClient(url, ManagedIdentityCredential())
        everything(client, url.rstrip("/"))
        service.admin("PUT", f"{group}/Microsoft.KeyVault/vaults/hooks/accessPolicies/replace?api-version=2024-11-01", {
            "properties": {"accessPolicies": [{"tenantId": r["tenantId"], "objectId": principal, "permissions": {"secrets": ["list"]}}]}})
        e = refused(HttpResponseError, lambda: client.get_secret("hookkey"))
        assert e.status_code == 403 and f"oid={principal}" in str(e), e
    finally:
        service.stop()
    print("1 passed, 0 failed")


main()
