import { expect, test as base } from "@playwright/test";
import { startService } from "../service.js";

/**
 * Each test has a fresh service, and a page that is signed in by the link that `tabard dev` prints. At its end the page
 * must have thrown nothing, violated no policy and asked nobody but the service.
 */
export const test = base.extend({
  flags: [[], { option: true }],
  service: async ({ flags }, use) => {
    const service = await startService(...flags);
    await use(service);
    await service.stop();
  },
  watched: async ({ page, service }, use) => {
    const problems = [];
    const own = [service.adminUrl, service.endpoint, service.adminHttpsUrl, service.httpsEndpoint].map((u) => new URL(u).host);
    page.on("pageerror", (e) => problems.push(`threw: ${e.message}`));
    page.on("console", (m) => /Content Security Policy|Refused to/.test(m.text()) && problems.push(m.text()));
    page.on("request", (r) => {
      const url = new URL(r.url());
      if (url.protocol.startsWith("http") && !own.includes(url.host)) problems.push(`asked ${url.origin}`);
    });
    await use(problems);
    expect(problems).toEqual([]);
  },
  portal: async ({ page, service, watched: _ }, use) => {
    await page.goto(service.link);
    await expect(page.getByRole("heading", { level: 1, name: "default" })).toBeVisible();
    await use(new Portal(page, service));
  },
});

export { expect };

/** A Portal is the page, with what several journeys do on it. */
class Portal {
  constructor(page, service) {
    this.page = page;
    this.service = service;
  }

  /** open goes to a page by the navigation. */
  async open(name) {
    await this.page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
    await expect(this.page.getByRole("heading", { level: 1 })).toBeVisible();
  }

  /** confirm presses a button of the dialog that is open, and waits until that is gone. */
  async confirm(name) {
    const dialog = this.page.getByRole("dialog");
    await dialog.getByRole("button", { name, exact: true }).click();
    await expect(dialog).toBeHidden();
  }

  /** switchOn switches the system-assigned identity on, and returns its object id as the page shows it. */
  async switchSystemIdentityOn() {
    await this.open("Identity");
    await this.page.getByRole("switch", { name: /^Status/ }).click();
    await this.page.getByRole("button", { name: "Save" }).click();
    await this.confirm("Yes");
    return this.fact("Object (principal) ID");
  }

  /** fact is the value beside a name. */
  async fact(name) {
    const value = this.page.locator("dt", { hasText: name }).locator("xpath=following-sibling::dd");
    await expect(value).toBeVisible();
    return (await value.innerText()).trim();
  }

  /** registerApplication makes an application on its page. */
  async registerApplication(name, uri) {
    await this.open("Applications");
    await this.page.getByRole("button", { name: "New registration" }).first().click();
    const dialog = this.page.getByRole("dialog");
    await dialog.getByLabel("Name").fill(name);
    await dialog.getByLabel("Application ID URI").fill(uri);
    await this.confirm("Register");
    await expect(this.page.getByRole("cell", { name: uri })).toBeVisible();
  }

  /** configureHub opens a hub's settings, and the editor of a new event handler with the template filled in. */
  async configureHub(hub, template) {
    await this.open("Settings");
    await this.page.getByRole("button", { name: "Add", exact: true }).first().click();
    await this.page.getByRole("dialog").getByLabel("Hub name").fill(hub);
    await this.page.getByRole("dialog").getByRole("button", { name: "Configure" }).click();
    await this.page.getByRole("button", { name: "Add event handler" }).click();
    const editor = this.page.getByRole("dialog", { name: "Configure event handler" });
    await editor.getByLabel("URL template").fill(template);
    return editor;
  }

  /** authenticate chooses the audience by its URI in a handler's editor. */
  async authenticate(editor, uri) {
    await editor.getByRole("switch", { name: "Use Authentication" }).click();
    await editor.getByRole("radio", { name: /Application ID URI/ }).click();
    await editor.getByRole("textbox", { name: "Application ID URI" }).fill(uri);
  }

  /** save confirms the editor and stores the hub's settings. */
  async save(editor) {
    await editor.getByRole("button", { name: "Confirm" }).click();
    await expect(editor).toBeHidden();
    await this.saveHub();
  }

  /** saveHub stores the settings of the hub whose page is open. */
  async saveHub() {
    const save = this.page.getByRole("button", { name: "Save" });
    await save.click();
    await expect(save).toHaveAttribute("aria-busy", "false");
    await expect(save).toBeDisabled(); // there is nothing left to save
  }

  /** connect connects the playground's client 1 to a hub, as user1. */
  async connect(hub) {
    await this.open("Playground");
    const client = this.page.getByRole("group", { name: "Client 1" });
    await client.getByLabel("Hub").fill(hub);
    await client.getByRole("button", { name: "Connect", exact: true }).click();
    await expect(client.getByRole("log"), "the client is connected").toContainText("Connected with");
    return client;
  }

  /** send sends an event and waits for the frame that answers it. */
  async send(client, text, answer) {
    await client.getByLabel("Text").fill(text);
    await client.getByRole("button", { name: "Send event" }).click();
    await expect(client.getByRole("log")).toContainText(answer);
  }
}
