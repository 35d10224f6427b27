import { Button, Drawer, DrawerBody, DrawerFooter, DrawerHeader, DrawerHeaderTitle, Field, Input, makeStyles, Radio, RadioGroup, Textarea, tokens } from "@fluentui/react-components";
import { useState } from "react";
import type { EventHandler } from "../api/arm";
import { Choices } from "../shared/Choices";
import { Authentication } from "./Authentication";
import { Preview } from "./Preview";

const useStyles = makeStyles({
  drawer: { width: "min(640px, 100vw)" },
  body: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalL, paddingBottom: tokens.spacingVerticalL },
});

const systemEvents = ["connect", "connected", "disconnected"];

type UserEvents = "all" | "none" | "specify";

interface Props {
  hub: string;
  handler: EventHandler | undefined; // undefined: a new one
  onClose(): void;
  onConfirm(handler: EventHandler): void;
}

/** HandlerEditor is Azure's Configure Event Handler. What it confirms is stored when the hub's settings are saved. */
export function HandlerEditor({ hub, handler, onClose, onConfirm }: Props) {
  const styles = useStyles();
  const [draft, setDraft] = useState<EventHandler>(handler ?? { urlTemplate: "", userEventPattern: "*", systemEvents: [] });
  const change = (some: Partial<EventHandler>) => setDraft({ ...draft, ...some });
  const [events, setEvents] = useState<UserEvents>(kindOf(draft.userEventPattern));
  return (
    <Drawer className={styles.drawer} position="end" open onOpenChange={(_, d) => !d.open && onClose()}>
      <DrawerHeader>
        <DrawerHeaderTitle>Configure event handler</DrawerHeaderTitle>
      </DrawerHeader>
      <DrawerBody className={styles.body}>
        <Field
          label="URL template"
          required
          hint="{hub} and {event} are filled in for each event. A secret of a key vault: {@Microsoft.KeyVault(SecretUri=https://…/secrets/name)}"
        >
          <Textarea resize="vertical" spellCheck={false} value={draft.urlTemplate} onChange={(_, d) => change({ urlTemplate: d.value.trim() })} placeholder="https://app.example.com/eventhandler/{hub}/{event}" />
        </Field>
        <Preview hub={hub} handler={draft} />
        <Choices label="System events" options={systemEvents} chosen={draft.systemEvents} onChange={(chosen) => change({ systemEvents: chosen })} />
        <Field label="User events">
          <RadioGroup
            layout="horizontal"
            value={events}
            onChange={(_, d) => {
              setEvents(d.value as UserEvents);
              change({ userEventPattern: d.value === "all" ? "*" : "" });
            }}
          >
            <Radio value="all" label="All" />
            <Radio value="none" label="None" />
            <Radio value="specify" label="Specify" />
          </RadioGroup>
        </Field>
        {events === "specify" && (
          <Field label="User event names" hint="Separated by commas.">
            <Input value={draft.userEventPattern ?? ""} onChange={(_, d) => change({ userEventPattern: d.value })} placeholder="message, order" />
          </Field>
        )}
        <Authentication auth={draft.auth} onChange={(auth) => change({ auth })} />
      </DrawerBody>
      <DrawerFooter>
        <Button appearance="primary" disabled={draft.urlTemplate === ""} onClick={() => onConfirm(draft)}>
          Confirm
        </Button>
        <Button onClick={onClose}>Cancel</Button>
      </DrawerFooter>
    </Drawer>
  );
}

function kindOf(pattern: string | undefined): UserEvents {
  return pattern === "*" ? "all" : pattern ? "specify" : "none";
}
