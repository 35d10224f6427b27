// Operators sign in at an issuer and see what their role allows; the page works below a path of a reverse proxy.
import { once } from "node:events";
import { createServer, request } from "node:http";
import { expect, test } from "./fixtures.js";
import { startIssuer } from "../issuer.js";
import { startService } from "../service.js";

test("An operator signs in at an issuer, and a role shows as much as it allows", async ({ browser }) => {
  const issuer = await startIssuer("portal");
  const service = await startService("--handler-ca", issuer.caFile, "--trust-issuer", issuer.url, "--portal-oidc-issuer", issuer.url, "--portal-oidc-client-id", "portal",
    "--portal-oidc-scope", "openid user_impersonation", "--portal-oidc-resource", issuer.resource);
  const context = await browser.newContext({ ignoreHTTPSErrors: true }); // both have certificates of their own making
  try {
    const portal = `${service.adminHttpsUrl}/portal/`;
    issuer.admit(portal);
    const page = await context.newPage();
    await page.goto(portal);
    await page.getByRole("button", { name: `Sign in at ${new URL(issuer.url).host}` }).click();
    await page.locator("input[name=login]").fill("ann");
    await page.locator("input[name=password]").fill("any");
    await page.getByRole("button", { name: /sign.?in/i }).click();
    await page.getByRole("button", { name: "Continue" }).click();

    // Somebody, but without a role: nothing is shown, and the words are the service's.
    await expect(page).toHaveURL((url) => url.href.startsWith(portal));
    await expect(page.getByText(new RegExp(`does not have authorization|${issuer.objectId}`)).first()).toBeVisible();
    expect(page.url()).not.toContain("code=");

    await service.cli("role", "assign", "--foreign", "--principal", issuer.objectId, "--role", "Reader", "--scope", "/");
    await page.reload();
    await expect(page.getByRole("heading", { level: 1, name: "default" })).toBeVisible();
    await page.getByRole("navigation").getByRole("link", { name: "Identity" }).click();
    await page.getByRole("switch", { name: /^Status/ }).click();
    const save = page.getByRole("button", { name: "Save" });
    await expect(save).toHaveAttribute("aria-disabled", "true");
    await save.hover();
    await expect(page.getByRole("tooltip")).toContainText("does not have authorization");
    await page.getByRole("navigation").getByRole("link", { name: "Settings" }).click();
    await expect(page.getByRole("button", { name: "Add" }).first()).toHaveAttribute("aria-disabled", "true");
    await page.getByRole("navigation").getByRole("link", { name: "Keys" }).click();
    const keys = page.getByRole("switch", { name: "Access keys" });
    await expect(keys).toHaveAttribute("aria-disabled", "true");
    await keys.focus();
    await expect(page.getByRole("tooltip")).toContainText("does not have authorization");
    await keys.press("Space");
    await expect(keys).toBeChecked();
  } finally {
    await context.close();
    await service.stop();
    await issuer.stop();
  }
});

test("The page works below a path of a reverse proxy", async ({ page, service }) => {
  const proxy = createServer((req, res) => {
    if (!req.url.startsWith("/ops/tabard/")) return res.writeHead(404).end();
    const onward = request(service.adminUrl + req.url.slice("/ops/tabard".length), { method: req.method, headers: req.headers }, (answer) => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    onward.on("error", () => res.destroy());
    req.pipe(onward);
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  try {
    const root = `http://127.0.0.1:${proxy.address().port}/ops/tabard/`;
    const strays = [];
    page.on("request", (r) => r.url().startsWith(root) || strays.push(r.url()));
    await page.goto(root);
    await expect(page).toHaveURL(`${root}portal/`);
    await page.getByLabel("Admin token").fill(service.adminToken);
    await page.keyboard.press("Enter");
    await expect(page.getByRole("heading", { level: 1, name: "default" })).toBeVisible();
    await page.getByRole("navigation").getByRole("link", { name: "Identity" }).click();
    await page.getByRole("switch", { name: /^Status/ }).click();
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Yes" }).click();
    await expect(page.getByText("Object (principal) ID")).toBeVisible();
    expect(strays).toEqual([]);
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});
