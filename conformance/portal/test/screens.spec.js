// Every screen, with something on it: usable with a keyboard and a screen reader as far as axe can tell, in light and in
// dark, and text from elsewhere shown as text. With SCREENS=1 the pictures in docs/screens are taken on the way.
import AxeBuilder from "@axe-core/playwright";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "./fixtures.js";

const pictures = process.env.SCREENS && resolve(import.meta.dirname, "../../../docs/screens");

// What attacks a page that takes names and payloads for markup.
const markup = `<img src=x onerror="document.title='attacked'">`;

const screens = [
  ["overview", "instances/default/default/overview"],
  ["quickstart", "instances/default/default/quickstart"],
  ["keys", "instances/default/default/keys"],
  ["settings", "instances/default/default/settings"],
  ["hub", "instances/default/default/settings/chat"],
  ["identity", "instances/default/default/identity"],
  ["access", "instances/default/default/access"],
  ["trace", "instances/default/default/trace"],
  ["playground", "instances/default/default/playground"],
  ["connections", "instances/default/default/connections"],
  ["applications", "applications"],
  ["identities", "identities"],
  ["vaults", "vaults"],
  ["vault", "vaults/default/hooks"],
];

/** faults are what axe finds. Tabster's dummies, which keep the focus within a group, move it on when they get it. */
async function faults(page, name) {
  const { violations } = await new AxeBuilder({ page }).exclude("[data-tabster-dummy]").analyze();
  return violations.map((v) => `${name}: ${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`);
}

/** furnish puts something on every screen, and an event with markup into the trace. */
async function furnish(service) {
  const { cli, data } = service;
  await cli("identity", "assign", "--system");
  const { principalId } = JSON.parse(await cli("identity", "create", "herald", "--json"));
  await cli("app", "create", markup, "--identifier-uri", "api://orders");
  await cli("role", "assign", "--principal", principalId, "--role", "Web PubSub Service Owner", "--instance", "default");
  await cli("hub", "set", "chat", "--handler-url", "http://127.0.0.1:1/eventhandler", "--user-events", "*", "--auth", "managed-identity", "--audience", "api://orders");
  await cli("vault", "create", "hooks");
  const value = join(data, "value");
  writeFileSync(value, "s3cret");
  await cli("secret", "set", "hooks", "function-key", "--file", value);
  await cli("trigger", "--hub", "chat", "--user", markup, markup).catch(() => {}); // nobody listens there
}

for (const scheme of ["light", "dark"]) {
  test(`every screen is accessible and shows text as text, ${scheme}`, async ({ portal: _, page, service }) => {
    test.setTimeout(240_000);
    await furnish(service);
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    for (const [name, path] of screens) {
      await page.goto(`${service.adminUrl}/portal/#/${path}`);
      await expect(page.getByRole("heading", { level: 1 }), name).toBeVisible();
      await expect(page.getByRole("progressbar"), `${name} has loaded`).toHaveCount(0);
      expect.soft(await faults(page, name)).toEqual([]);
      if (pictures && scheme === "light") await page.screenshot({ path: join(pictures, `${name}.png`) });
    }
    await page.goto(`${service.adminUrl}/portal/#/applications`);
    await expect(page.getByText(markup).first()).toBeVisible();
    await page.goto(`${service.adminUrl}/portal/#/instances/default/default/trace`);
    await page.getByRole("button", { name: /EventNotDelivered/ }).first().click();
    await expect(page.getByRole("complementary", { name: "Record" })).toContainText(markup);
    expect.soft(await faults(page, "record")).toEqual([]);
    if (pictures && scheme === "light") await page.screenshot({ path: join(pictures, "record.png") });
    expect(await page.title()).not.toBe("attacked");
  });
}

test("the page is signed in to with the admin token, and with nothing else", async ({ page, service, watched: _ }) => {
  await page.goto(`${service.adminUrl}/portal/`);
  await expect(page.getByRole("heading", { name: "Sign in to Tabard" })).toBeVisible();
  expect(await faults(page, "sign-in")).toEqual([]);
  await page.getByLabel("Admin token").fill("nonsense");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert").or(page.getByText(/token/i)).first()).toBeVisible();
  await expect(page.getByRole("heading", { name: "Sign in to Tabard" })).toBeVisible();
  await page.getByLabel("Admin token").fill(service.adminToken);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "default" })).toBeVisible();
  expect(page.url()).not.toContain(service.adminToken);
  expect(await page.evaluate(() => JSON.stringify({ ...localStorage }))).not.toContain(service.adminToken);
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("heading", { name: "Sign in to Tabard" })).toBeVisible();
});
