import { Button, Dialog, DialogActions, DialogBody, DialogContent, DialogSurface, DialogTitle } from "@fluentui/react-components";
import type { ReactNode } from "react";
import type { Answer, Client } from "../api/client";
import { useChange } from "./change";
import { ErrorBar } from "./feedback";

interface Props {
  title: string;
  open: boolean;
  busy?: boolean;
  error?: Error | null;
  /** What the button that does it says. */
  verb: string;
  disabled?: boolean;
  onClose(): void;
  onConfirm(): void;
  children: ReactNode;
}

/** Confirm asks, or takes a few fields, before something is done; it stays open while that is under way or failed. */
export function Confirm({ title, open, busy = false, error = null, verb, disabled = false, onClose, onConfirm, children }: Props) {
  return (
    <Dialog open={open} onOpenChange={(_, d) => !d.open && !busy && onClose()}>
      <DialogSurface aria-describedby={undefined}>
        <form
          onSubmit={(e) => {
            e.preventDefault();
            onConfirm();
          }}
        >
          <DialogBody>
            <DialogTitle>{title}</DialogTitle>
            <DialogContent>
              {children}
              {error !== null && <ErrorBar error={error} />}
            </DialogContent>
            <DialogActions>
              <Button appearance="primary" type="submit" disabled={busy || disabled} aria-busy={busy}>
                {busy ? "Working…" : verb}
              </Button>
              <Button disabled={busy} onClick={onClose}>
                Cancel
              </Button>
            </DialogActions>
          </DialogBody>
        </form>
      </DialogSurface>
    </Dialog>
  );
}

interface ChangeProps extends Pick<Props, "title" | "verb" | "disabled" | "onClose" | "children"> {
  act(api: Client): Promise<Answer<unknown> | void>;
  success: string;
}

/**
 * ConfirmChange is a Confirm of one change, which closes once that succeeded. It is there only while it asks, so that
 * the next one does not begin with the error of the last.
 */
export function ConfirmChange({ act, success, onClose, ...rest }: ChangeProps) {
  const change = useChange(act, success);
  return <Confirm {...rest} open busy={change.busy} error={change.error} onClose={onClose} onConfirm={() => void change.run().then((ok) => ok && onClose())} />;
}
