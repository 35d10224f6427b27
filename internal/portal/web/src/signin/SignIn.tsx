import { Button, Divider, Field, Input, makeStyles, Spinner, Text, Title2, tokens } from "@fluentui/react-components";
import { useEffect, useState } from "react";
import { clientFor } from "../app/api";
import { loadSettings } from "../app/settings";
import { version } from "../api/arm";
import { ErrorBar } from "../shared/feedback";
import { beginSignIn, explain, finishSignIn, type OIDC, returnedParameters } from "./oidc";
import { lastFarewell, startSession } from "./session";

const useStyles = makeStyles({
  page: { minHeight: "100vh", display: "grid", placeItems: "center", backgroundColor: tokens.colorNeutralBackground2 },
  card: { width: "min(440px, 92vw)", display: "flex", flexDirection: "column", gap: tokens.spacingVerticalL, padding: tokens.spacingHorizontalXXL, borderRadius: tokens.borderRadiusLarge, boxShadow: tokens.shadow16, backgroundColor: tokens.colorNeutralBackground1 },
  form: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalM },
});

/** SignIn takes the admin token, or sends the user to the issuer if one is configured. */
export function SignIn() {
  const styles = useStyles();
  const [oidc, setOidc] = useState<OIDC | null>(null);
  const [returning, setReturning] = useState(() => returnedParameters() !== null);
  const [problem, setProblem] = useState(lastFarewell);
  useEffect(() => {
    const returned = returnedParameters();
    void (async () => {
      try {
        const settings = await loadSettings();
        setOidc(settings.oidc);
        if (returned !== null && settings.oidc !== null && returnedParameters() !== null) await finishSignIn(settings.oidc, returned);
      } catch (error) {
        setProblem(explain(error));
      } finally {
        setReturning(false);
      }
    })();
  }, []);
  return (
    <main className={styles.page}>
      <div className={styles.card}>
        <Title2 as="h1">Sign in to Tabard</Title2>
        {problem !== "" && <ErrorBar error={new Error(problem)} />}
        {returning ? (
          <Spinner label="Signing in…" />
        ) : (
          <>
            {oidc !== null && (
              <>
                <IssuerButton oidc={oidc} onProblem={setProblem} />
                <Divider>or</Divider>
              </>
            )}
            <TokenForm onProblem={setProblem} />
          </>
        )}
      </div>
    </main>
  );
}

function IssuerButton({ oidc, onProblem }: { oidc: OIDC; onProblem: (why: string) => void }) {
  const [leaving, setLeaving] = useState(false);
  return (
    <Button
      appearance="primary"
      disabled={leaving}
      onClick={() => {
        setLeaving(true);
        beginSignIn(oidc).catch((error: unknown) => {
          onProblem(explain(error));
          setLeaving(false);
        });
      }}
    >
      Sign in at {new URL(oidc.issuer).host}
    </Button>
  );
}

function TokenForm({ onProblem }: { onProblem: (why: string) => void }) {
  const styles = useStyles();
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    const session = { token: token.trim(), kind: "admin" as const, name: "Admin token" };
    try {
      await clientFor(session).get("/subscriptions", { "api-version": version.resources });
      startSession(session);
    } catch (error) {
      onProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <form
      className={styles.form}
      onSubmit={(e) => {
        e.preventDefault();
        void submit();
      }}
    >
      <Field label="Admin token" hint="It is in admin.token in the service's data directory. tabard dev prints a link that has it.">
        <Input type="password" autoComplete="off" value={token} onChange={(_, d) => setToken(d.value)} />
      </Field>
      <Button type="submit" disabled={busy || token.trim() === ""}>
        Sign in
      </Button>
      <Text size={200}>The token stays in this tab and is forgotten with it.</Text>
    </form>
  );
}
