import { makeStyles, mergeClasses, tokens } from "@fluentui/react-components";
import type { Stage } from "../api/trace";
import { duration } from "./filter";

const useStyles = makeStyles({
  list: { listStyleType: "none", margin: 0, padding: 0, display: "flex", flexDirection: "column", gap: tokens.spacingVerticalXS },
  row: { display: "grid", gridTemplateColumns: "88px minmax(0, 1fr) 128px", columnGap: tokens.spacingHorizontalM, alignItems: "center" },
  track: { height: "12px", backgroundColor: tokens.colorNeutralBackground3, borderRadius: tokens.borderRadiusSmall, position: "relative" },
  bar: { position: "absolute", top: 0, bottom: 0, minWidth: "3px", borderRadius: tokens.borderRadiusSmall },
  ok: { backgroundColor: tokens.colorPaletteGreenBackground3 },
  failed: { backgroundColor: tokens.colorPaletteRedBackground3 },
  skipped: { backgroundColor: tokens.colorNeutralStroke1 },
  detail: { gridColumn: "2 / -1", color: tokens.colorNeutralForeground2, fontSize: tokens.fontSizeBase200, overflowWrap: "anywhere" },
});

/** Timeline shows the stages of a delivery one after the other, each as long as it took. */
export function Timeline({ stages }: { stages: Stage[] }) {
  const styles = useStyles();
  const total = Math.max(1, stages.reduce((sum, s) => sum + s.durationNs, 0));
  let before = 0;
  return (
    <ol className={styles.list} aria-label="Stages">
      {stages.map((s, i) => {
        const left = (before / total) * 100;
        before += s.durationNs;
        return (
          <li key={i} className={styles.row}>
            <span>{s.name}</span>
            <span className={styles.track} aria-hidden>
              <span className={mergeClasses(styles.bar, styles[s.outcome])} style={{ left: `${left}%`, width: `${(s.durationNs / total) * 100}%` }} />
            </span>
            <span>
              {s.outcome}, {duration(s.durationNs)}
            </span>
            {s.detail !== undefined && s.detail !== "" && <span className={styles.detail}>{s.detail}</span>}
          </li>
        );
      })}
    </ol>
  );
}
