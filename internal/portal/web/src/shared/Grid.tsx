import { makeStyles, Table, TableBody, TableCell, TableHeader, TableHeaderCell, TableRow, tokens } from "@fluentui/react-components";
import type { ReactNode } from "react";
import { ErrorBar, Loading } from "./feedback";

const useStyles = makeStyles({
  scroll: { overflowX: "auto" },
  cell: { overflowWrap: "anywhere", paddingBlock: tokens.spacingVerticalXS },
});

export interface Column<T> {
  name: string;
  width?: string;
  cell(row: T): ReactNode;
}

interface Props<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  id(row: T): string;
}

/** Grid is a table of rows. */
export function Grid<T>({ label, columns, rows, id }: Props<T>) {
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

/** Listing is a Grid of rows that are read from the service: it is empty instead if there are none, and says why they are not there. */
export function Listing<T>({ rows, error, empty, ...grid }: Omit<Props<T>, "rows"> & { rows: T[] | undefined; error: Error | null; empty: ReactNode }) {
  return (
    <>
      {error && <ErrorBar error={error} />}
      {rows === undefined && !error && <Loading />}
      {rows?.length === 0 && empty}
      {rows !== undefined && rows.length > 0 && <Grid rows={rows} {...grid} />}
    </>
  );
}
