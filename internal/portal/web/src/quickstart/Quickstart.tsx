import { Tab, TabList } from "@fluentui/react-components";
import { useState } from "react";
import { type Live, version } from "../api/arm";
import { useReading } from "../app/api";
import { useCurrent } from "../app/instance";
import { Code } from "../shared/Copy";
import { Page, Section } from "../shared/Page";
import { samples } from "./samples";
import { TryIt } from "./TryIt";

/** Quickstart is the shortest way to an event with a verified identity, then code for this very instance. */
export function Quickstart() {
  const instance = useCurrent();
  const live = useReading<Live>(["live"], `${instance.id}/live`, version.webPubSub);
  const list = samples(live.data?.endpoint ?? "", instance.name);
  const [chosen, setChosen] = useState(list[0]?.name ?? "");
  const shown = list.find((s) => s.name === chosen);
  return (
    <Page title="Quickstart" about="An event of a client, on its way to a handler that trusts nobody, carrying the identity of this instance.">
      <TryIt />
      <Section title="Code for this instance">
        <TabList selectedValue={chosen} onTabSelect={(_, d) => setChosen(String(d.value))}>
          {list.map((s) => (
            <Tab key={s.name} value={s.name}>
              {s.name}
            </Tab>
          ))}
        </TabList>
        {shown && <p>{shown.about}</p>}
        {shown && <Code text={shown.code} what={`${shown.name} code`} />}
      </Section>
    </Page>
  );
}
