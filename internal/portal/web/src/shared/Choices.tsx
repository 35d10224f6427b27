import { Checkbox, Label, makeStyles, useId } from "@fluentui/react-components";

const useStyles = makeStyles({
  checks: { display: "flex", flexWrap: "wrap" },
});

/** Choices is a group of check boxes. (A Field would give each of them the same id, and its label to the first.) */
export function Choices({ label, options, chosen, onChange }: { label: string; options: string[]; chosen: string[]; onChange(chosen: string[]): void }) {
  const styles = useStyles();
  const id = useId("choices");
  return (
    <div role="group" aria-labelledby={id}>
      <Label id={id}>{label}</Label>
      <div className={styles.checks}>
        {options.map((o) => (
          <Checkbox key={o} label={o} checked={chosen.includes(o)} onChange={(_, d) => onChange(options.filter((other) => (other === o ? d.checked === true : chosen.includes(other))))} />
        ))}
      </div>
    </div>
  );
}
