import { makeStyles, Table, TableBody, TableCell, TableHeader, TableHeaderCell, TableRow, tokens } from "@fluentui/react-components";
import type { ReactNode } from "react";

const useStyles = makeStyles({
  scroll: { overflowX: "auto" },
  cell: { overflowWrap: "anywhere", paddingBlock: tokens.spacingVerticalXS },
});

export interface Column<T> {
  name: string;
  width?: string;
  cell(row: T): ReactNode;
}

/** Grid is a table of rows. */
export function Grid<T>({ label, columns, rows, id }: { label: string; columns: Column<T>[]; rows: T[]; id(row: T): string }) {
  const styles = useStyles();
  return (
    <div className={styles.scroll}>
      <Table aria-label={label} size="small">
        <TableHeader>
          <TableRow>
            {columns.map((c) => (
              <TableHeaderCell key={c.name} style={{ width: c.width }}>
                {c.name}
              </TableHeaderCell>
            ))}
          </TableRow>
        </TableHeader>
        <TableBody>
          {rows.map((row) => (
            <TableRow key={id(row)}>
              {columns.map((c) => (
                <TableCell key={c.name} className={styles.cell}>
                  {c.cell(row)}
                </TableCell>
              ))}
            </TableRow>
          ))}
        </TableBody>
      </Table>
    </div>
  );
}
