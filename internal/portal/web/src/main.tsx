import { createDOMRenderer, FluentProvider, RendererProvider } from "@fluentui/react-components";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { HashRouter } from "react-router";
import { App } from "./app/App";
import "./base.css";
import { useTheme } from "./app/theme";
import { takeLink } from "./signin/session";

// The components' rules go into style elements that the content security policy admits by this nonce.
const nonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce;
const renderer = createDOMRenderer(document, nonce ? { styleElementAttributes: { nonce } } : {});

function Root() {
  const { theme } = useTheme();
  return (
    <RendererProvider renderer={renderer} targetDocument={document}>
      <FluentProvider theme={theme} applyStylesToPortals>
        <HashRouter>
          <App />
        </HashRouter>
      </FluentProvider>
    </RendererProvider>
  );
}

takeLink();
const root = document.getElementById("root");
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <Root />
    </StrictMode>,
  );
}
