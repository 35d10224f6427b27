import { useQuery } from "@tanstack/react-query";
import { Button, type ButtonProps, Spinner, Switch, type SwitchProps, Tooltip } from "@fluentui/react-components";
import type { ReactElement } from "react";
import { useApi, seldom } from "../app/api";
import { useSession } from "../signin/session";

/** An Ask is a request that a button would make. */
export interface Ask {
  method: string;
  path: string;
}

/** useMay tells whether the caller may make a request, and if not, what the service would say. */
function useMay(ask: Ask): { allowed: boolean; why: string } {
  const api = useApi();
  const admin = useSession()?.kind === "admin"; // may everything
  const { data } = useQuery({
    queryKey: ["may", ask],
    queryFn: async () => (await api.call<{ value: { allowed: boolean; message?: string }[] }>("POST", "/tabard/v1/access", { body: [ask] })).body.value[0],
    enabled: !admin,
    refetchInterval: seldom,
  });
  if (admin) return { allowed: true, why: "" };
  return { allowed: data?.allowed ?? false, why: data?.message ?? "" };
}

type Props = Extract<ButtonProps, { as?: "button" }> & { ask: Ask; busy?: boolean };

/** Act is a button for a request: disabled with the service's own words for who may not, with a spinner under way. */
export function Act({ ask, busy, disabled, icon, children, ...rest }: Props) {
  const { allowed, why } = useMay(ask);
  const button = (
    <Button {...rest} icon={busy ? <Spinner size="tiny" /> : icon} disabled={disabled || busy} disabledFocusable={!allowed} aria-busy={busy}>
      {children}
    </Button>
  );
  return explained(button, why);
}

/** ActSwitch is Act for a switch that makes its request at once. */
export function ActSwitch({ ask, busy, ...rest }: SwitchProps & { ask: Ask; busy: boolean }) {
  const { allowed, why } = useMay(ask);
  return explained(<Switch {...rest} disabled={busy} disabledFocusable={!allowed} />, why);
}

function explained(control: ReactElement, why: string): ReactElement {
  if (why === "") return control;
  return (
    <Tooltip content={why} relationship="description" withArrow>
      {control}
    </Tooltip>
  );
}
