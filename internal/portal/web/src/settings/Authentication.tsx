import { Checkbox, Dropdown, Field, Input, makeStyles, Option, Radio, RadioGroup, Subtitle2, Switch, Text, tokens } from "@fluentui/react-components";
import { useState } from "react";
import { Link } from "react-router";
import type { Application, Auth, List } from "../api/arm";
import { instancePath, useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { ErrorBar, Note } from "../shared/feedback";

const useStyles = makeStyles({
  section: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalM },
  inner: { display: "flex", flexDirection: "column", gap: tokens.spacingVerticalM, paddingLeft: tokens.spacingHorizontalL },
});

interface Props {
  auth: Auth | undefined;
  onChange(auth: Auth | undefined): void;
}

/** Authentication says whether events carry a token of the managed identity, and for whom it is issued. */
export function Authentication({ auth, onChange }: Props) {
  const styles = useStyles();
  const instance = useCurrent();
  const used = auth?.type === "ManagedIdentity";
  const resource = auth?.managedIdentity?.resource ?? "";
  const [specified, setSpecified] = useState(!used || resource !== "");
  const set = (audience: string) => onChange({ type: "ManagedIdentity", managedIdentity: { resource: audience } });
  return (
    <section className={styles.section} aria-label="Authentication">
      <Subtitle2 as="h3">Authentication</Subtitle2>
      <Switch label="Use Authentication" checked={used} onChange={(_, d) => (d.checked ? set(resource) : onChange(undefined))} />
      {!used && <Text>Without it, the handler cannot tell this service from anybody else who knows its address.</Text>}
      {used && (
        <div className={styles.inner}>
          {instance.identity.type === "None" && instance.properties.tabard?.identitySource === undefined && (
            <Note intent="warning" title="This instance has no managed identity">
              Its events to this handler fail until you <Link to={instancePath(instance.id, instance.name, "identity")}>add a system-assigned or user-assigned identity</Link>.
            </Note>
          )}
          <Checkbox
            label="Specify the issued token audience"
            checked={specified}
            onChange={(_, d) => {
              setSpecified(d.checked === true);
              if (d.checked !== true) set("");
            }}
          />
          <Text size={200}>The audience becomes the aud claim in the obtained access token, which can be used as a part of validation in your event handler.</Text>
          {specified && <Audience resource={resource} onChange={set} />}
          {resource === "" && (
            <Note intent="warning" title="An empty audience is Microsoft Graph">
              A token that is obtained with an empty audience targets Microsoft Graph. Nobody but Microsoft Graph can authenticate it, your event handler neither. Create an application that represents your event handler, and use its Application ID or Application ID URI.
            </Note>
          )}
        </div>
      )}
    </section>
  );
}

type Way = "existing" | "uri";

function Audience({ resource, onChange }: { resource: string; onChange(resource: string): void }) {
  const styles = useStyles();
  const list = useReading<List<Application>>(["applications"], "/v1.0/applications", undefined);
  const applications = list.data?.value ?? [];
  const chosen = applications.find((a) => a.appId === resource);
  const [way, setWay] = useState<Way | null>(null);
  const shown = way ?? (chosen !== undefined || resource === "" ? "existing" : "uri");
  return (
    <div className={styles.inner}>
      <RadioGroup aria-label="Audience" value={shown} onChange={(_, d) => setWay(d.value as Way)}>
        <Radio value="existing" label="Select from existing applications" />
        <Radio value="uri" label="The Application ID URI of the service principal" />
      </RadioGroup>
      {shown === "existing" ? (
        <Field label="Application" hint={<>The application ID of the one you choose will be used. <Link to="/applications">Applications</Link> lists and creates them.</>}>
          <Dropdown
            placeholder={applications.length === 0 ? "There is no application yet" : "Select an application"}
            value={chosen ? `${chosen.displayName} (${chosen.appId})` : ""}
            selectedOptions={chosen ? [chosen.appId] : []}
            onOptionSelect={(_, d) => d.optionValue !== undefined && onChange(d.optionValue)}
          >
            {applications.map((a) => (
              <Option key={a.appId} value={a.appId} text={a.displayName}>
                {`${a.displayName} (${a.appId})`}
              </Option>
            ))}
          </Dropdown>
        </Field>
      ) : (
        <Field label="Application ID URI">
          <Input value={resource} spellCheck={false} placeholder="api://my-handler" onChange={(_, d) => onChange(d.value.trim())} />
        </Field>
      )}
      {list.error && <ErrorBar error={list.error} />}
    </div>
  );
}
