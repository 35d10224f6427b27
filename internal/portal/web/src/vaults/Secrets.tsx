import { useQuery } from "@tanstack/react-query";
import { Badge, Button, Field, Input, makeStyles, Text, tokens } from "@fluentui/react-components";
import { AddRegular } from "@fluentui/react-icons/svg/add";
import { DeleteRegular } from "@fluentui/react-icons/svg/delete";
import { useState } from "react";
import { lastSegment, type List, type SecretItem, segment, type Vault, version } from "../api/arm";
import type { ApiError, Client } from "../api/client";
import { seldom, useApi } from "../app/api";
import { useChange } from "../shared/change";
import { ConfirmChange } from "../shared/Confirm";
import { Copy, Value } from "../shared/Copy";
import { Empty, ErrorBar, Loading } from "../shared/feedback";
import { Grid } from "../shared/Grid";
import { Section } from "../shared/Page";

const useStyles = makeStyles({
  column: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalL },
  bar: { display: "flex", gap: tokens.spacingHorizontalS },
});

const query = { "api-version": version.secrets };

/** secretsOf is the data plane of a vault as this browser reaches it. */
function secretsOf(vault: Vault): string {
  return `/tabard/v1/vaults/${segment(vault.name)}/secrets`;
}

/** everyPage follows the links of a list; they name the vault's own address, so only their query is taken. */
async function everyPage(api: Client, path: string, signal: AbortSignal): Promise<SecretItem[]> {
  const items: SecretItem[] = [];
  let next: Record<string, string> | null = query;
  while (next !== null) {
    const page: List<SecretItem> & { nextLink?: string | null } = await api.get(path, next, signal);
    items.push(...page.value);
    next = page.nextLink ? Object.fromEntries(new URL(page.nextLink).searchParams) : null;
  }
  return items;
}

export function Secrets({ vault }: { vault: Vault }) {
  const styles = useStyles();
  const api = useApi();
  const path = secretsOf(vault);
  const list = useQuery<SecretItem[], ApiError>({ queryKey: ["secrets", path], queryFn: ({ signal }) => everyPage(api, path, signal), refetchInterval: seldom });
  const [setting, setSetting] = useState<string | null>(null); // the name of the secret that gets a new version; "": a new one
  const [chosen, setChosen] = useState<string | null>(null);
  const [deleting, setDeleting] = useState<string | null>(null);
  const add = (
    <Button appearance="primary" icon={<AddRegular />} style={{ alignSelf: "flex-start" }} onClick={() => setSetting("")}>
      Generate/Import
    </Button>
  );
  return (
    <div className={styles.column}>
      {list.error && <ErrorBar error={list.error} />}
      {list.isPending && <Loading />}
      {list.data?.length === 0 && (
        <Empty title="No secret yet" action={add}>
          A secret is a text with versions. Event handlers' URLs refer to it by its secret identifier.
        </Empty>
      )}
      {list.data !== undefined && list.data.length > 0 && (
        <>
          {add}
          <Grid
            label="Secrets"
            rows={list.data}
            id={(s) => s.id}
            columns={[
              {
                name: "Name",
                cell: (s) => (
                  <Button appearance="transparent" onClick={() => setChosen(lastSegment(s.id))}>
                    {lastSegment(s.id)}
                  </Button>
                ),
              },
              { name: "Secret identifier", cell: (s) => <Value text={s.id} what="secret identifier" /> },
              { name: "Status", width: "100px", cell: (s) => <Enabled item={s} /> },
              {
                name: "Action",
                width: "260px",
                cell: (s) => (
                  <span className={styles.bar}>
                    <Button size="small" aria-label={`New version of ${lastSegment(s.id)}`} onClick={() => setSetting(lastSegment(s.id))}>
                      New version
                    </Button>
                    <Button size="small" icon={<DeleteRegular />} aria-label={`Delete ${lastSegment(s.id)}`} onClick={() => setDeleting(lastSegment(s.id))}>
                      Delete
                    </Button>
                  </span>
                ),
              },
            ]}
          />
        </>
      )}
      {chosen !== null && <Versions path={path} name={chosen} />}
      {setting !== null && <SetSecret path={path} name={setting} onClose={() => setSetting(null)} />}
      {deleting !== null && (
        <ConfirmChange
          title="Delete secret"
          verb="Delete"
          act={(api) => api.call("DELETE", `${path}/${segment(deleting)}`, { query })}
          success={`The secret ${deleting} was deleted.`}
          onClose={() => setDeleting(null)}
        >
          <Text>Events to handlers whose URL refers to {deleting} are not sent any more. The secret can be recovered for {vault.properties.softDeleteRetentionInDays} days.</Text>
        </ConfirmChange>
      )}
    </div>
  );
}

function Enabled({ item }: { item: SecretItem }) {
  return (
    <Badge appearance="tint" color={item.attributes.enabled ? "success" : "warning"}>
      {item.attributes.enabled ? "Enabled" : "Disabled"}
    </Badge>
  );
}

function Versions({ path, name }: { path: string; name: string }) {
  const api = useApi();
  const list = useQuery<SecretItem[], ApiError>({
    queryKey: ["versions", path, name],
    queryFn: ({ signal }) => everyPage(api, `${path}/${segment(name)}/versions`, signal),
    refetchInterval: seldom,
  });
  const [revealed, setRevealed] = useState<{ id: string; value: string } | null>(null);
  const reveal = useChange(async (api, id: string) => {
    const { body } = await api.call<{ value: string }>("GET", `${path}/${segment(name)}/${segment(lastSegment(id))}`, { query });
    setRevealed({ id, value: body.value });
  }, "The value is shown on this page until you leave it.");
  const toggle = useChange(
    (api, item: SecretItem) => api.call("PATCH", `${path}/${segment(name)}/${segment(lastSegment(item.id))}`, { query, body: { attributes: { enabled: !item.attributes.enabled } } }),
    (item) => (item.attributes.enabled ? "The version is disabled." : "The version is enabled."),
  );
  const newest = [...(list.data ?? [])].sort((a, b) => b.attributes.created - a.attributes.created);
  return (
    <Section title={`Versions of ${name}`}>
      {list.error && <ErrorBar error={list.error} />}
      {reveal.error && <ErrorBar error={reveal.error} />}
      {toggle.error && <ErrorBar error={toggle.error} />}
      <Grid
        label={`Versions of ${name}`}
        rows={newest}
        id={(s) => s.id}
        columns={[
          { name: "Version", cell: (s) => <Value text={lastSegment(s.id)} what="version" /> },
          { name: "Created", cell: (s) => new Date(s.attributes.created * 1000).toLocaleString() },
          { name: "Status", width: "100px", cell: (s) => <Enabled item={s} /> },
          {
            name: "Value",
            cell: (s) =>
              revealed?.id === s.id ? (
                <span>
                  <code>{revealed.value}</code> <Copy text={revealed.value} what="value" />
                </span>
              ) : (
                <Button size="small" disabled={reveal.busy} aria-label={`Show the value of version ${lastSegment(s.id)}`} onClick={() => void reveal.run(s.id)}>
                  Show value
                </Button>
              ),
          },
          {
            name: "Action",
            width: "120px",
            cell: (s) => (
              <Button size="small" disabled={toggle.busy} onClick={() => void toggle.run(s)}>
                {s.attributes.enabled ? "Disable" : "Enable"}
              </Button>
            ),
          },
        ]}
      />
    </Section>
  );
}

function SetSecret({ path, name: given, onClose }: { path: string; name: string; onClose(): void }) {
  const [name, setName] = useState(given);
  const [value, setValue] = useState("");
  return (
    <ConfirmChange
      title={given === "" ? "Create a secret" : `New version of ${given}`}
      verb="Create"
      disabled={name === "" || value === ""}
      act={(api) => api.call("PUT", `${path}/${segment(name)}`, { query, body: { value } })}
      success={`The secret ${name} has a new version.`}
      onClose={onClose}
    >
      {given === "" && (
        <Field label="Name" required>
          <Input value={name} onChange={(_, d) => setName(d.value.trim())} />
        </Field>
      )}
      <Field label="Secret value" required>
        <Input type="password" autoComplete="off" value={value} onChange={(_, d) => setValue(d.value)} />
      </Field>
    </ConfirmChange>
  );
}
