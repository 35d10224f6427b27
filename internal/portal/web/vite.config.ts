import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // the page works below any path
  plugins: [react()],
  html: { cspNonce: "__TABARD_NONCE__" }, // portal.go puts a fresh one in its place
  build: {
    target: "es2022",
    sourcemap: false,
    assetsInlineLimit: 0, // nothing needs a permission of its own
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200,
  },
});
