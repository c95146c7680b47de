import "@fontsource-variable/source-code-pro/wght.css";
import "@fontsource-variable/source-sans-3/wght.css";
import "@fontsource-variable/source-serif-4/opsz.css";
import "@fontsource-variable/source-serif-4/opsz-italic.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { lensHash } from "../contract/shell.ts";
import { App } from "./App.tsx";
import { shell } from "./shell/index.ts";
import "./styles/tokens.css";
import "./styles/base.css";
import { AppProvider, createApp } from "./store/app.ts";
import { fetchParts } from "./ui/later.tsx";
import { TipProvider } from "./ui/Tip.tsx";

const store = createApp(shell, location.hash === lensHash ? "lens" : "all");
store.getState().connect();

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <AppProvider value={store}>
      <TipProvider delayDuration={450} skipDelayDuration={200}>
        <App />
      </TipProvider>
    </AppProvider>
  </StrictMode>,
);
fetchParts();
