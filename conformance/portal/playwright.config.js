import { execFileSync } from "node:child_process";
import { defineConfig } from "@playwright/test";

/** Debian's browser; Playwright's own builds are not downloaded. */
function chromium() {
  return process.env.CHROMIUM ?? execFileSync("sh", ["-c", "command -v chromium || command -v chromium-browser || command -v google-chrome"], { encoding: "utf8" }).trim();
}

export default defineConfig({
  testDir: "test",
  workers: 2,
  fullyParallel: true,
  forbidOnly: Boolean(process.env.CI),
  timeout: 90_000, // of a whole journey, on a machine that does other things too
  expect: { timeout: 20_000 },
  reporter: [["line"]],
  use: {
    browserName: "chromium",
    launchOptions: { executablePath: chromium() },
    viewport: { width: 1280, height: 800 },
    locale: "en-GB",
    actionTimeout: 20_000,
    trace: "retain-on-failure",
  },
});
