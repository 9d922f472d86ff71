export {
  AmbientLight, BufferAttribute, BufferGeometry, BoxGeometry, Color, DirectionalLight, DoubleSide, Group,
  HemisphereLight, InstancedMesh, LineBasicMaterial, LineSegments, Matrix4, Mesh, MeshBasicMaterial, MeshStandardMaterial,
  PerspectiveCamera, Points, PointsMaterial, Scene, SRGBColorSpace, Vector3, WebGLRenderer, GridHelper, Box3Helper, Box3,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
