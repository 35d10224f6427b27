import { Badge, makeStyles, mergeClasses, Table, TableBody, TableCell, TableHeader, TableHeaderCell, TableRow, tokens } from "@fluentui/react-components";
import { isFault, type TraceRecord } from "../api/trace";
import { duration } from "./filter";

const useStyles = makeStyles({
  scroll: { overflow: "auto", maxHeight: "68vh" },
  table: { minWidth: "1000px" },
  row: { cursor: "pointer" },
  selected: { backgroundColor: tokens.colorNeutralBackground1Selected, "& button": { color: tokens.colorNeutralForeground1Selected } },
  cell: { overflow: "hidden", textOverflow: "ellipsis", whiteSpace: "nowrap" },
  open: { padding: 0, border: "none", background: "none", color: tokens.colorBrandForegroundLink, font: "inherit", cursor: "pointer", textAlign: "left", ":focus-visible": { outline: `2px solid ${tokens.colorStrokeFocus2}` } },
});

const columns: [name: string, width: string][] = [
  ["Time", "100px"], ["Level", "100px"], ["Event name", "190px"], ["Message", "auto"], ["Hub", "90px"], ["User ID", "90px"], ["Status", "64px"], ["Duration", "76px"],
];

/** TraceTable has the columns of Azure's live trace that fit; the others are in the detail pane. */
export function TraceTable({ rows, selected, onSelect }: { rows: TraceRecord[]; selected: number | undefined; onSelect(id: number): void }) {
  const styles = useStyles();
  return (
    <div className={styles.scroll} tabIndex={0} role="region" aria-label="Records">
      <Table aria-label="Live trace" size="extra-small" className={styles.table}>
        <TableHeader>
          <TableRow>
            {columns.map(([name, width]) => (
              <TableHeaderCell key={name} style={{ width }}>
                {name}
              </TableHeaderCell>
            ))}
          </TableRow>
        </TableHeader>
        <TableBody>
          {rows.map((r) => (
            <TableRow key={r.id} className={mergeClasses(styles.row, selected === r.id && styles.selected)} onClick={() => onSelect(r.id)} aria-selected={selected === r.id}>
              <TableCell className={styles.cell}>{new Date(r.time).toLocaleTimeString()}</TableCell>
              <TableCell>
                <Badge size="small" appearance="tint" color={r.level === "Error" ? "danger" : r.level === "Warning" ? "warning" : "informative"}>
                  {r.level}
                </Badge>
              </TableCell>
              <TableCell className={styles.cell}>
                <button type="button" className={styles.open} onClick={() => onSelect(r.id)}>
                  {r.operationName}
                  {r.event !== undefined && ` (${r.event})`}
                </button>
              </TableCell>
              <TableCell className={styles.cell} title={r.message}>
                {isFault(r) ? `${r.code}: ${r.message ?? ""}` : r.message}
              </TableCell>
              <TableCell className={styles.cell}>{r.hub}</TableCell>
              <TableCell className={styles.cell}>{r.userId}</TableCell>
              <TableCell>{r.status}</TableCell>
              <TableCell>{duration(r.durationNs)}</TableCell>
            </TableRow>
          ))}
        </TableBody>
      </Table>
    </div>
  );
}
