import { makeStyles, MessageBar, MessageBarBody, MessageBarTitle, Spinner, Subtitle2, Text, tokens } from "@fluentui/react-components";
import type { ReactNode } from "react";
import { ApiError } from "../api/client";

const useStyles = makeStyles({
  bar: { maxWidth: "960px" },
  empty: { display: "flex", flexDirection: "column", alignItems: "flex-start", gap: tokens.spacingVerticalM, maxWidth: "640px", padding: tokens.spacingHorizontalXXL, border: `1px dashed ${tokens.colorNeutralStroke1}`, borderRadius: tokens.borderRadiusMedium },
  loading: { padding: tokens.spacingHorizontalXXL },
});

/** ErrorBar says what the service said. */
export function ErrorBar({ error }: { error: Error }) {
  const styles = useStyles();
  return (
    <MessageBar intent="error" layout="multiline" className={styles.bar} role="alert">
      <MessageBarBody>
        {error instanceof ApiError && error.code !== "" && <MessageBarTitle>{error.code}</MessageBarTitle>}
        {error.message}
        {error instanceof ApiError && error.target !== undefined && ` (${error.target})`}
      </MessageBarBody>
    </MessageBar>
  );
}

/** Warnings are what was accepted and will not do what one would think. */
export function Warnings({ warnings }: { warnings: string[] }) {
  return warnings.map((w) => (
    <Note key={w} intent="warning">
      {w}
    </Note>
  ));
}

export function Note({ intent = "info", title, children }: { intent?: "info" | "warning" | "success"; title?: string; children: ReactNode }) {
  const styles = useStyles();
  return (
    <MessageBar intent={intent} layout="multiline" className={styles.bar}>
      <MessageBarBody>
        {title !== undefined && <MessageBarTitle>{title}</MessageBarTitle>}
        {children}
      </MessageBarBody>
    </MessageBar>
  );
}

export function Loading({ what = "Loading…" }: { what?: string }) {
  const styles = useStyles();
  return <Spinner className={styles.loading} label={what} labelPosition="after" />;
}

/** Empty teaches what would be here, and how it gets here. */
export function Empty({ title, children, action }: { title: string; children: ReactNode; action?: ReactNode }) {
  const styles = useStyles();
  return (
    <div className={styles.empty}>
      <Subtitle2 as="h2">{title}</Subtitle2>
      <Text>{children}</Text>
      {action}
    </div>
  );
}
