#!/bin/sh
# ovf.sh IMAGE FOLDER PROJECT: makes, of the lab's image in the folder IMAGE and the project,
# a tar.gz, a VM that VirtualBox and VMware import: in FOLDER its description workshop.ovf,
# its disk workshop.vmdk, and workshop.mf with their checksums.
#
# It is OVF 1.1 (DMTF's DSP0243), which both read, and that says SHA-1 for the checksums. The
# devices in it have names that both know: a SATA controller, an E1000 network card on "nat".
set -eu
image=$1
folder=$2
project=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$image.ovf
start=$(date +%s)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

say() { printf '  ovf %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

rm -rf "$work"
mkdir -p "$work"
say 'a disk that starts itself, with the project'
sh "$here/disk.sh" "$image" "$work/disk.raw" alone "$project"
say 'VMDK'
vmdk=$folder/workshop.vmdk
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized,adapter_type=lsilogic "$work/disk.raw" "$vmdk"
# The format's end-of-stream marker is an empty sector, and VirtualBox reads until it meets
# one. qemu-img fills up to a multiple of 64 kB: mostly with such sectors, at times with none.
head -c 512 /dev/zero >>"$vmdk"

say 'OVF'
cat >"$folder/workshop.ovf" <<END
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xml:lang="en-US"
    xmlns="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:id="file1" ovf:href="workshop.vmdk" ovf:size="$(stat -c %s "$vmdk")"/>
  </References>
  <DiskSection>
    <Info>The VM's disk</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="$(stat -c %s "$work/disk.raw")"
        ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>A network that this machine alone can reach</Info>
    <Network ovf:name="nat">
      <Description>NAT</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="container-workshop">
    <Info>The lab of the workshop: build your own container</Info>
    <Name>container-workshop</Name>
    <OperatingSystemSection ovf:id="96">
      <Info>The operating system, by its number in the CIM schema</Info>
      <Description>Debian 64-bit</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>2 processors, 2 GB of memory</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>container-workshop</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:ElementName>2 processors</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>2</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:ElementName>2048 MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>2048</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:ElementName>SATA controller</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>vmware.sata.ahci</rasd:ResourceSubType>
        <rasd:ResourceType>20</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>Disk</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>nat</rasd:Connection>
        <rasd:ElementName>Network card</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>E1000</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
END
(cd "$folder" && sha1sum workshop.ovf workshop.vmdk) |
	sed 's/^\([0-9a-f]*\) .\(.*\)$/SHA1(\2)= \1/' >"$folder/workshop.mf"
say "done, $(du -m "$vmdk" | cut -f1) MB"
