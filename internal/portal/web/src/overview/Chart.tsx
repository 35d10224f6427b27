import { Card, Caption1, makeStyles, Subtitle2, tokens } from "@fluentui/react-components";

const useStyles = makeStyles({
  svg: { width: "100%", height: "72px", display: "block" },
  good: { stroke: tokens.colorBrandForeground1, fill: tokens.colorBrandBackground2 },
  bad: { stroke: tokens.colorPaletteRedForeground1, fill: tokens.colorPaletteRedBackground2 },
});

const width = 300;
const height = 60;

/** Chart is a small area chart of equally spaced values; what it shows is also said in words. */
export function Chart({ title, unit, values, caption, bad = false }: { title: string; unit: string; values: number[]; caption: string; bad?: boolean }) {
  const styles = useStyles();
  const most = Math.max(1, ...values);
  const x = (i: number) => (values.length < 2 ? width : (i / (values.length - 1)) * width);
  const y = (v: number) => height - (v / most) * (height - 4);
  const line = values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
  const latest = values.at(-1) ?? 0;
  return (
    <Card>
      <Subtitle2 as="h3">{title}</Subtitle2>
      <svg className={styles.svg} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={`${title}: ${latest} ${unit} now, at most ${Math.max(0, ...values)}`}>
        {values.length > 0 && <polygon className={bad ? styles.bad : styles.good} points={`0,${height} ${line} ${width},${height}`} strokeWidth="1" vectorEffect="non-scaling-stroke" />}
      </svg>
      <Caption1>
        {latest} now, at most {Math.max(0, ...values)}; {caption}
      </Caption1>
    </Card>
  );
}
