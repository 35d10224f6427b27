import { Combobox, Field, Option } from "@fluentui/react-components";
import { useState } from "react";
import type { List, ServicePrincipal } from "../api/arm";
import { useReading } from "../app/api";
import { ErrorBar } from "../shared/feedback";

/** usePrincipals are the principals of the directory, and their names by object id. */
export function usePrincipals(): { list: ServicePrincipal[]; error: Error | null; nameOf(objectId: string): string } {
  const { data, error } = useReading<List<ServicePrincipal>>(["principals"], "/v1.0/servicePrincipals", undefined);
  const list = data?.value ?? [];
  return { list, error, nameOf: (id) => list.find((p) => p.id.toLowerCase() === id.toLowerCase())?.displayName ?? "Unknown to the directory" };
}

const kinds: Record<string, string> = { ManagedIdentity: "managed identity", Application: "application" };

/** PrincipalPicker selects a principal by name, or takes an object id as it is. */
export function PrincipalPicker({ value, onChange }: { value: string; onChange(objectId: string): void }) {
  const { list, error } = usePrincipals();
  const [text, setText] = useState<string | null>(null);
  const chosen = list.find((p) => p.id === value);
  const found = list.filter((p) => text === null || p.displayName.toLowerCase().includes(text.toLowerCase()) || p.id.startsWith(text));
  return (
    <Field label="Principal" hint="A managed identity or an application by name, or an object ID.">
      <Combobox
        freeform
        value={text ?? (chosen ? chosen.displayName : value)}
        selectedOptions={chosen ? [chosen.id] : []}
        onInput={(e) => {
          setText(e.currentTarget.value);
          onChange(e.currentTarget.value.trim());
        }}
        onOptionSelect={(_, d) => {
          setText(null);
          if (d.optionValue !== undefined) onChange(d.optionValue);
        }}
      >
        {found.map((p) => (
          <Option key={p.id} value={p.id} text={p.displayName}>
            {`${p.displayName} (${kinds[p.servicePrincipalType] ?? p.servicePrincipalType})`}
          </Option>
        ))}
      </Combobox>
      {error && <ErrorBar error={error} />}
    </Field>
  );
}
