import { Badge, Button, makeStyles, mergeClasses, Text, tokens, Tooltip } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { ArrowDownRegular } from "@fluentui/react-icons/svg/arrow-down";
import { ArrowUpRegular } from "@fluentui/react-icons/svg/arrow-up";
import { DeleteRegular } from "@fluentui/react-icons/svg/delete";
import { EditRegular } from "@fluentui/react-icons/svg/edit";
import { type ReactElement, useState } from "react";
import type { EventHandler } from "../api/arm";
import { Empty } from "../shared/feedback";

const useStyles = makeStyles({
  list: { listStyleType: "none", margin: 0, padding: 0, display: "flex", flexDirection: "column", gap: tokens.spacingVerticalS },
  row: { display: "flex", flexWrap: "wrap", alignItems: "center", gap: tokens.spacingHorizontalM, padding: tokens.spacingHorizontalM, border: `1px solid ${tokens.colorNeutralStroke2}`, borderRadius: tokens.borderRadiusMedium, cursor: "grab" },
  over: { border: `1px solid ${tokens.colorBrandStroke1}` },
  text: { display: "flex", flexDirection: "column", flexGrow: 1, minWidth: "200px", overflowWrap: "anywhere" },
  add: { alignSelf: "flex-start" },
});

interface Props {
  handlers: EventHandler[];
  onChange(handlers: EventHandler[]): void;
  onEdit(index: number): void;
}

/** HandlerList is the handlers of a hub in their order, which decides: the first that matches gets the event, alone. */
export function HandlerList({ handlers, onChange, onEdit }: Props) {
  const styles = useStyles();
  const [dragged, setDragged] = useState<number | null>(null);
  const [over, setOver] = useState<number | null>(null);
  const move = (from: number, to: number) => {
    const handler = handlers[from];
    if (handler !== undefined) onChange(handlers.toSpliced(from, 1).toSpliced(to, 0, handler));
  };
  const add = (
    <Button className={styles.add} icon={<AddRegular />} onClick={() => onEdit(handlers.length)}>
      Add event handler
    </Button>
  );
  if (handlers.length === 0) {
    return (
      <Empty title="No event handler" action={add}>
        An event handler is your HTTP endpoint that receives the events of clients. Without one, user events of this hub fail.
      </Empty>
    );
  }
  return (
    <>
      <Text>The first handler that matches an event gets it, and no other. Drag them, or use the arrows, to change their order.</Text>
      <ol className={styles.list} aria-label="Event handlers in order">
        {handlers.map((h, i) => (
          <li
            key={i}
            draggable
            className={mergeClasses(styles.row, over === i && styles.over)}
            onDragStart={() => setDragged(i)}
            onDragOver={(e) => {
              e.preventDefault();
              setOver(i);
            }}
            onDragEnd={() => {
              setDragged(null);
              setOver(null);
            }}
            onDrop={(e) => {
              e.preventDefault();
              if (dragged !== null) move(dragged, i);
            }}
          >
            <div className={styles.text}>
              <Text weight="semibold">
                {i + 1}. {h.urlTemplate}
              </Text>
              <Text size={200}>
                System events: {h.systemEvents.join(", ") || "none"}. User events: {userEvents(h.userEventPattern)}.
              </Text>
            </div>
            <Badge appearance="tint" color={h.auth?.type === "ManagedIdentity" ? "success" : "informative"}>
              {h.auth?.type === "ManagedIdentity" ? `Managed identity for ${h.auth.managedIdentity?.resource || "Microsoft Graph"}` : "No authentication"}
            </Badge>
            <IconButton label={`Move handler ${i + 1} up`} icon={<ArrowUpRegular />} disabled={i === 0} onClick={() => move(i, i - 1)} />
            <IconButton label={`Move handler ${i + 1} down`} icon={<ArrowDownRegular />} disabled={i === handlers.length - 1} onClick={() => move(i, i + 1)} />
            <IconButton label={`Edit handler ${i + 1}`} icon={<EditRegular />} onClick={() => onEdit(i)} />
            <IconButton label={`Delete handler ${i + 1}`} icon={<DeleteRegular />} onClick={() => onChange(handlers.toSpliced(i, 1))} />
          </li>
        ))}
      </ol>
      {add}
    </>
  );
}

function userEvents(pattern: string | undefined): string {
  return pattern === undefined || pattern === "" ? "none" : pattern === "*" ? "all" : pattern;
}

function IconButton({ label, icon, disabled, onClick }: { label: string; icon: ReactElement; disabled?: boolean; onClick(): void }) {
  return (
    <Tooltip content={label} relationship="label">
      <Button appearance="subtle" icon={icon} disabled={disabled} onClick={onClick} />
    </Tooltip>
  );
}
