import { Button, makeStyles, tokens, Tooltip } from "@fluentui/react-components";
import { CheckmarkRegular } from "@fluentui/react-icons/svg/checkmark";
import { CopyRegular } from "@fluentui/react-icons/svg/copy";
import { useState } from "react";

const useStyles = makeStyles({
  value: { display: "flex", alignItems: "center", gap: tokens.spacingHorizontalXS, minWidth: 0 },
  text: { fontFamily: tokens.fontFamilyMonospace, fontSize: tokens.fontSizeBase200, overflowWrap: "anywhere" },
  block: { position: "relative" },
  code: { margin: 0, padding: tokens.spacingHorizontalM, paddingRight: "44px", overflowX: "auto", backgroundColor: tokens.colorNeutralBackground3, color: tokens.colorNeutralForeground1, borderRadius: tokens.borderRadiusMedium, fontSize: tokens.fontSizeBase200, fontFamily: tokens.fontFamilyMonospace, whiteSpace: "pre-wrap", overflowWrap: "anywhere" },
  corner: { position: "absolute", top: tokens.spacingVerticalXS, right: tokens.spacingHorizontalXS },
});

/** Copy puts a text on the clipboard. */
export function Copy({ text, what, className }: { text: string; what: string; className?: string }) {
  const [done, setDone] = useState(false);
  return (
    <Tooltip content={done ? "Copied" : `Copy ${what}`} relationship="label">
      <Button
        className={className}
        size="small"
        appearance="subtle"
        icon={done ? <CheckmarkRegular /> : <CopyRegular />}
        onClick={() => {
          void navigator.clipboard.writeText(text).then(() => setDone(true));
        }}
        onBlur={() => setDone(false)}
      />
    </Tooltip>
  );
}

/** Value is a text that people copy: an id, an address. */
export function Value({ text, what }: { text: string; what: string }) {
  const styles = useStyles();
  return (
    <span className={styles.value}>
      <span className={styles.text}>{text}</span>
      <Copy text={text} what={what} />
    </span>
  );
}

/** Code is a block of text as it is. */
export function Code({ text, what }: { text: string; what: string }) {
  const styles = useStyles();
  return (
    <div className={styles.block}>
      <pre className={styles.code} tabIndex={0} aria-label={what}>
        {text}
      </pre>
      <Copy text={text} what={what} className={styles.corner} />
    </div>
  );
}
