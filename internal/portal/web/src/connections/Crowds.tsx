import { Button, Text } from "@fluentui/react-components";
import type { Crowd } from "../api/arm";
import { useCurrent } from "../app/instance";
import { askDataPlane } from "../playground/connect";
import { Grid } from "../shared/Grid";
import { Act } from "../shared/may";
import { Section } from "../shared/Page";

interface Props {
  title: "Groups" | "Users";
  crowds: Crowd[];
  count: number; // of all, more than are listed perhaps
  onSelect(name: string): void;
  onClose(name: string): void;
}

/** Crowds lists the groups, or the users, of a hub with the number of their connections. */
export function Crowds({ title, crowds, count, onSelect, onClose }: Props) {
  const instance = useCurrent();
  return (
    <Section title={title}>
      {crowds.length === 0 ? (
        <Text>None.</Text>
      ) : (
        <Grid
          label={title}
          rows={crowds}
          id={(c) => c.name}
          columns={[
            {
              name: title === "Groups" ? "Group" : "User ID",
              cell: (c) => (
                <Button appearance="transparent" onClick={() => onSelect(c.name)}>
                  {c.name}
                </Button>
              ),
            },
            { name: "Connections", cell: (c) => c.connections },
            {
              name: "Action",
              width: "100px",
              cell: (c) => (
                <Act ask={askDataPlane(instance)} size="small" aria-label={`Close ${c.name}`} onClick={() => onClose(c.name)}>
                  Close
                </Act>
              ),
            },
          ]}
        />
      )}
      {count > crowds.length && <Text size={200}>And {count - crowds.length} more.</Text>}
    </Section>
  );
}
