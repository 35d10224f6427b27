import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { Toaster } from "@fluentui/react-components";
import { useMemo } from "react";
import { Navigate, Route, Routes } from "react-router";
import { AccessControl } from "../access/AccessControl";
import { ApiError } from "../api/client";
import { Applications } from "../applications/Applications";
import { Connections } from "../connections/Connections";
import { UserIdentities } from "../identities/UserIdentities";
import { IdentityPage } from "../identity/IdentityPage";
import { KeysPage } from "../keys/KeysPage";
import { Overview } from "../overview/Overview";
import { Playground } from "../playground/Playground";
import { Quickstart } from "../quickstart/Quickstart";
import { HubPage } from "../settings/HubPage";
import { HubsPage } from "../settings/HubsPage";
import { toasterId } from "../shared/change";
import { SignIn } from "../signin/SignIn";
import { useSession } from "../signin/session";
import { TracePage } from "../trace/TracePage";
import { VaultPage } from "../vaults/VaultPage";
import { Vaults } from "../vaults/Vaults";
import { ApiProvider } from "./api";
import { Home } from "./Home";
import { InstanceScope } from "./instance";
import { Shell } from "./Shell";

function newQueries(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 1_000,
        // The caller's mistakes do not mend themselves; a service that restarts comes back.
        retry: (failures, error) => failures < 2 && (!(error instanceof ApiError) || error.status === 0 || error.status >= 500),
      },
    },
  });
}

export function App() {
  const session = useSession();
  const queries = useMemo(newQueries, [session]); // nothing that one user saw is left for the next
  if (session === null) return <SignIn />;
  return (
    <QueryClientProvider client={queries}>
      <ApiProvider session={session}>
        <Toaster toasterId={toasterId} position="bottom-end" />
        <Routes>
          <Route element={<Shell session={session} />}>
            <Route index element={<Home />} />
            <Route path="instances/:group/:name" element={<InstanceScope />}>
              <Route index element={<Navigate to="overview" replace />} />
              <Route path="overview" element={<Overview />} />
              <Route path="quickstart" element={<Quickstart />} />
              <Route path="keys" element={<KeysPage />} />
              <Route path="identity" element={<IdentityPage />} />
              <Route path="settings" element={<HubsPage />} />
              <Route path="settings/:hub" element={<HubPage />} />
              <Route path="trace" element={<TracePage />} />
              <Route path="playground" element={<Playground />} />
              <Route path="connections" element={<Connections />} />
              <Route path="access" element={<AccessControl />} />
            </Route>
            <Route path="applications" element={<Applications />} />
            <Route path="identities" element={<UserIdentities />} />
            <Route path="vaults" element={<Vaults />} />
            <Route path="vaults/:group/:name" element={<VaultPage />} />
            <Route path="*" element={<Navigate to="/" replace />} />
          </Route>
        </Routes>
      </ApiProvider>
    </QueryClientProvider>
  );
}
