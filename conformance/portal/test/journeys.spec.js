// The journeys of "Managed identities for Azure Web PubSub Service", each from a fresh service to a real event that a
// handler with a verifying guard in front took or refused.
import { expect, test } from "./fixtures.js";
import { startGuarded, startUpstream } from "../service.js";

test("Add a system-assigned identity: events prove to come from it", async ({ portal, page, service }) => {
  const objectId = await portal.switchSystemIdentityOn();
  expect(objectId).toMatch(/^[0-9a-f-]{36}$/);
  await portal.registerApplication("orders", "api://orders");
  const handler = await startGuarded(service, "api://orders", "--allow-identity", objectId);
  try {
    const editor = await portal.configureHub("chat", `${handler.url}/eventhandler`);
    await portal.authenticate(editor, "api://orders");
    await portal.save(editor);
    const client = await portal.connect("chat");
    await portal.send(client, "hello", "user1 said hello");
    expect(handler.events.filter((e) => e.headers["ce-type"] === "azure.webpubsub.user.message")).toHaveLength(1);

    // Off again: the handler is not called at all.
    await portal.open("Identity");
    await page.getByRole("switch", { name: /^Status/ }).click();
    await page.getByRole("button", { name: "Save" }).click();
    await portal.confirm("Yes");
    const again = await portal.connect("chat");
    const before = handler.events.length;
    await portal.send(again, "anybody?", '"success":false');
    expect(handler.events).toHaveLength(before);
  } finally {
    await handler.stop();
  }
});

test("Add a user-assigned identity: it is searched for, added, and takes the other's place", async ({ portal, page, service }) => {
  await portal.switchSystemIdentityOn();
  await portal.open("User-assigned identities");
  for (const name of ["herald", "blazon"]) {
    await page.getByRole("button", { name: "Create" }).first().click();
    await page.getByRole("dialog").getByLabel("Name").fill(name);
    await portal.confirm("Create");
  }
  const objectId = await page.getByRole("row", { name: /herald/ }).getByRole("cell").nth(2).innerText();
  await portal.open("Identity");
  await page.getByRole("tab", { name: "User assigned" }).click();
  await expect(page.getByText("supports only one managed identity, and the system-assigned identity is on")).toBeVisible();
  await page.getByRole("button", { name: "Add", exact: true }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("searchbox").fill("HER");
  await expect(dialog.getByRole("radio")).toHaveCount(1);
  await dialog.getByRole("radio", { name: /herald/ }).click();
  await portal.confirm("Add");
  await expect(page.getByRole("row", { name: /herald/ })).toContainText(objectId.trim());
  await page.getByRole("tab", { name: "System assigned" }).click();
  await expect(page.getByRole("switch", { name: "Status: Off" })).toBeVisible();

  await portal.registerApplication("orders", "api://orders");
  const handler = await startGuarded(service, "api://orders", "--allow-identity", objectId.trim());
  try {
    const editor = await portal.configureHub("chat", `${handler.url}/eventhandler`);
    await portal.authenticate(editor, "api://orders");
    await portal.save(editor);
    await portal.send(await portal.connect("chat"), "hello", "user1 said hello");
    await portal.open("Identity");
    await page.getByRole("tab", { name: "User assigned" }).click();
    await page.getByRole("button", { name: "Remove herald" }).click();
    await portal.confirm("Yes");
    await portal.send(await portal.connect("chat"), "anybody?", '"success":false');
    expect(handler.events).toHaveLength(1);
  } finally {
    await handler.stop();
  }
});

test("Enable authentication in event handler settings: the audience is an existing application", async ({ portal, page, service }) => {
  await portal.switchSystemIdentityOn();
  await portal.registerApplication("orders", "api://orders");
  const appId = (await page.getByRole("row", { name: /orders/ }).getByRole("cell").nth(1).innerText()).trim();
  const handler = await startGuarded(service, appId);
  try {
    const editor = await portal.configureHub("chat", `${handler.url}/{hub}/{event}`);
    await expect(editor.getByText(`${handler.url}/chat/message`)).toBeVisible(); // the preview
    await editor.getByRole("button", { name: "Validate" }).click();
    await expect(editor.getByRole("alert")).toContainText("validation_unauthorized"); // nobody says who asks

    await editor.getByRole("switch", { name: "Use Authentication" }).click();
    await expect(editor.getByText("An empty audience is Microsoft Graph")).toBeVisible();
    await editor.getByRole("combobox", { name: "Application" }).click();
    await page.getByRole("option", { name: /orders/ }).click();
    await expect(editor.getByText("An empty audience is Microsoft Graph")).toBeHidden();
    await editor.getByRole("button", { name: "Validate" }).click();
    await expect(editor.getByText("The handler wants events of this service")).toBeVisible();
    await editor.getByRole("button", { name: "The token that it is sent" }).click();
    await expect(editor.locator("dt", { hasText: "aud" }).locator("xpath=following-sibling::dd")).toHaveText(appId);
    await editor.getByLabel("connected", { exact: true }).click();
    await portal.save(editor);

    // A second handler that would take the same events comes after it, until it is moved up.
    await page.getByRole("button", { name: "Add event handler" }).click();
    const second = page.getByRole("dialog", { name: "Configure event handler" });
    await second.getByLabel("URL template").fill("http://127.0.0.1:9/never");
    await portal.save(second);
    await portal.send(await portal.connect("chat"), "hello", "user1 said hello");
    const user = handler.events.find((e) => e.headers["ce-eventname"] === "message");
    expect(user.url).toBe("/chat/message");
    await expect.poll(() => handler.events.some((e) => e.headers["ce-type"] === "azure.webpubsub.sys.connected")).toBe(true);

    await portal.open("Settings");
    await page.getByRole("main").getByRole("link", { name: "chat" }).click();
    await page.getByRole("button", { name: "Move handler 2 up" }).click();
    await expect(page.getByRole("listitem").filter({ hasText: "1. http://127.0.0.1:9/never" })).toBeVisible();
    await portal.saveHub();
    await portal.send(await portal.connect("chat"), "hello again", '"success":false');
    expect(handler.events.filter((e) => e.body === "hello again")).toHaveLength(0);
  } finally {
    await handler.stop();
  }
});

test("Use a managed identity for Key Vault reference: the handler's code is in no setting", async ({ portal, page }) => {
  const upstream = await startUpstream();
  try {
    const objectId = await portal.switchSystemIdentityOn();
    await portal.open("Key vaults");
    await page.getByRole("main").getByRole("link", { name: "default", exact: true }).click();
    await page.getByRole("button", { name: "Generate/Import" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("handler-code");
    await page.getByRole("dialog").getByLabel("Secret value").fill("first-value");
    await portal.confirm("Create");
    const secretUri = (await page.getByRole("row", { name: /handler-code/ }).getByRole("cell").nth(1).innerText()).trim();

    const editor = await portal.configureHub("chat", `${upstream.url}/eventhandler?code={@Microsoft.KeyVault(SecretUri=${secretUri})}`);
    await expect(editor.getByText(`${upstream.url}/eventhandler?code=[secret]`)).toBeVisible();
    await portal.save(editor);
    await portal.send(await portal.connect("chat"), "too early", '"success":false');
    expect(upstream.events).toHaveLength(0);
    await portal.open("Live trace");
    await page.getByRole("button", { name: "EventNotDelivered (message)" }).first().click();
    await expect(page.getByRole("complementary", { name: "Record" })).toContainText("secret_denied");

    // Grant secret read permission in the access policies of the vault.
    await portal.open("Key vaults");
    await page.getByRole("main").getByRole("link", { name: "default", exact: true }).click();
    await page.getByRole("tab", { name: "Access policies" }).click();
    await page.getByRole("button", { name: "Create" }).first().click();
    await page.getByRole("dialog").getByRole("combobox", { name: "Principal" }).click();
    await page.getByRole("option", { name: /default/ }).click();
    await portal.confirm("Create");
    await expect(page.getByRole("row", { name: new RegExp(objectId) })).toContainText("get");
    const client = await portal.connect("chat");
    await portal.send(client, "hello", "user1 said hello");
    expect(upstream.events.map((e) => e.url)).toEqual(["/eventhandler?code=first-value"]);

    await portal.open("Key vaults");
    await page.getByRole("main").getByRole("link", { name: "default", exact: true }).click();
    await page.getByRole("button", { name: "New version of handler-code" }).click();
    await page.getByRole("dialog").getByLabel("Secret value").fill("second-value");
    await portal.confirm("Create");
    await portal.send(await portal.connect("chat"), "rotated", "user1 said rotated");
    expect(upstream.events.at(-1).url).toBe("/eventhandler?code=second-value");
  } finally {
    await upstream.stop();
  }
});

test("Why 401: the trace says which audience was wrong, and a replay shows that it is mended", async ({ portal, page, service }) => {
  await portal.switchSystemIdentityOn();
  await portal.registerApplication("orders", "api://orders");
  await portal.registerApplication("invoices", "api://invoices");
  const handler = await startGuarded(service, "api://orders");
  try {
    const editor = await portal.configureHub("chat", `${handler.url}/eventhandler`);
    await portal.authenticate(editor, "api://invoices"); // a token for somebody else
    await portal.save(editor);
    await portal.send(await portal.connect("chat"), "hello", '"success":false');
    expect(handler.events).toHaveLength(0);

    await portal.open("Live trace");
    await page.getByRole("switch", { name: "Only what failed" }).click();
    await page.getByRole("button", { name: "EventNotDelivered (message)" }).first().click();
    const record = page.getByRole("complementary", { name: "Record" });
    await expect(record).toContainText("401");
    await expect(record).toContainText("How to mend it");
    await expect(record.locator("dt", { hasText: "aud" }).first().locator("xpath=following-sibling::dd").first()).toHaveText("api://invoices");
    await expect(record).toContainText("wrong_audience"); // the guard said so in its challenge
    const link = page.url();
    expect(link).toMatch(/record=\d+$/);

    await portal.open("Settings");
    await page.getByRole("main").getByRole("link", { name: "chat" }).click();
    await page.getByRole("button", { name: "Edit handler 1" }).click();
    const again = page.getByRole("dialog", { name: "Configure event handler" });
    await again.getByRole("textbox", { name: "Application ID URI" }).fill("api://orders");
    await portal.save(again);
    await portal.send(await portal.connect("chat"), "mended", "user1 said mended");

    await page.goto(link); // a deep link finds the record again
    await record.getByRole("button", { name: "Replay" }).click();
    await expect(record.getByRole("status")).toContainText("→ delivered");
    await expect(record.getByRole("status")).toContainText("→ 200 (different)");
    expect(handler.events.map((e) => e.body)).toEqual(["mended", "hello"]);
  } finally {
    await handler.stop();
  }
});

test("A newcomer has an event with a verified identity on screen in under two minutes", async ({ page, service, watched: _ }) => {
  const began = Date.now();
  await page.goto(service.link);
  await page.getByRole("link", { name: "Quickstart" }).click();
  await page.getByRole("button", { name: "Send an event as this instance's identity" }).click();
  await expect(page.getByText("The handler verified who called it")).toBeVisible();
  await expect(page.getByText(/you said "hello"\. The caller proved to be [0-9a-f-]{36}/)).toBeVisible();
  await expect(page.locator("dt", { hasText: "aud" }).locator("xpath=following-sibling::dd")).toHaveText("api://sample-handler");
  expect(Date.now() - began).toBeLessThan(120_000);
  await page.getByRole("link", { name: "See every step" }).click();
  await expect(page.getByRole("list", { name: "Stages" }).getByRole("listitem").filter({ hasText: "token" })).toContainText("ok");
});

test("Why a deletion failed is not said of the next one", async ({ portal, page, service }) => {
  for (const name of ["orders", "invoices"]) await portal.registerApplication(name, `api://${name}`);
  const { value } = await service.admin("GET", "/v1.0/applications");
  await page.getByRole("button", { name: "Delete orders" }).click();
  await service.admin("DELETE", `/v1.0/applications/${value.find((a) => a.displayName === "orders").id}`); // somebody else is faster
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await expect(dialog.getByRole("alert")).toContainText("Request_ResourceNotFound");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Delete invoices" }).click();
  await expect(dialog).toContainText("invoices");
  await expect(dialog.getByRole("alert")).toHaveCount(0);
  await portal.confirm("Delete");
  await expect(page.getByText("No application yet")).toBeVisible();
});
