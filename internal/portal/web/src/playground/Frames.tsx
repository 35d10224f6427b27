import { makeStyles, mergeClasses, tokens } from "@fluentui/react-components";
import { useEffect, useRef } from "react";
import type { Frame } from "./useSocket";

const useStyles = makeStyles({
  log: { padding: tokens.spacingHorizontalS, height: "240px", overflowY: "auto", backgroundColor: tokens.colorNeutralBackground3, borderRadius: tokens.borderRadiusMedium, fontFamily: tokens.fontFamilyMonospace, fontSize: tokens.fontSizeBase200 },
  list: { listStyleType: "none", margin: 0, padding: 0 },
  frame: { overflowWrap: "anywhere", whiteSpace: "pre-wrap", paddingBlock: "2px" },
  sent: { color: tokens.colorBrandForeground1 },
  note: { color: tokens.colorNeutralForeground2, fontStyle: "italic" },
});

const arrows = { sent: "→ ", received: "← ", note: "" };

/** Frames lists what went over the wire, as text whatever is in it. */
export function Frames({ label, frames }: { label: string; frames: Frame[] }) {
  const styles = useStyles();
  const log = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (log.current) log.current.scrollTop = log.current.scrollHeight;
  }, [frames]);
  return (
    <div ref={log} className={styles.log} role="log" aria-label={label} tabIndex={0}>
      <ol className={styles.list}>
        {frames.map((f) => (
          <li key={f.id} className={mergeClasses(styles.frame, f.direction === "sent" && styles.sent, f.direction === "note" && styles.note)}>
            {f.at.toLocaleTimeString()} {arrows[f.direction]}
            {f.text}
          </li>
        ))}
      </ol>
    </div>
  );
}
