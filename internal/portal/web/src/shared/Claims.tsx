import { Accordion, AccordionHeader, AccordionItem, AccordionPanel } from "@fluentui/react-components";
import { Facts } from "./Facts";

const times = new Set(["exp", "iat", "nbf"]);

/** Claims shows a token's decoded payload; its signature is nowhere. */
export function Claims({ title, claims, open = false }: { title: string; claims: Record<string, unknown>; open?: boolean }) {
  return (
    <Accordion collapsible defaultOpenItems={open ? ["claims"] : []}>
      <AccordionItem value="claims">
        <AccordionHeader>{title}</AccordionHeader>
        <AccordionPanel>
          <Facts facts={Object.entries(claims).map(([name, value]) => [name, <code>{text(name, value)}</code>])} />
        </AccordionPanel>
      </AccordionItem>
    </Accordion>
  );
}

function text(name: string, value: unknown): string {
  if (times.has(name) && typeof value === "number") return `${value} (${new Date(value * 1000).toLocaleString()})`;
  return typeof value === "string" ? value : JSON.stringify(value);
}
