import { defineConfig } from "vitest/config";

export default defineConfig({
  // Served under whatever prefix the application chose, so every address must be relative.
  base: "./",
  build: {
    outDir: "../flask_sessionwatch/web/static",
    emptyOutDir: true,
    target: "es2022",
    // The content security policy forbids data: addresses and inline scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The bundle carries other people's MIT code, whose notices must travel with it.
    license: { fileName: "licenses.md" },
  },
  server: {
    // `npm run dev` beside a running application, for example `flask run`.
    proxy: {
      "/api": {
        target: process.env.SESSIONWATCH_DEV_TARGET ?? "http://127.0.0.1:5000/_sessionwatch",
        changeOrigin: true,
      },
    },
  },
  test: { environment: "happy-dom", include: ["test/**/*.test.{ts,tsx}"] },
});
